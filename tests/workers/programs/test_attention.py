"""Test attention weights and steps: only what is asked for is computed, and nothing else changes by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from bertstream.workers.programs.interface import AttentionOptions
from tests.support.pairs import EXACT, Pair, difference, packed, sizes

Make = Callable[..., Pair]

NAMES = ("bert", "roberta", "distilbert", "electra")
TEXTS = ("The quick brown fox", "The lazy brown dog", "a b", "", "The sun is a fox", "words " * 40, "a b")


@pytest.fixture
def both(pair: Make) -> Pair:
    return pair("bert")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", NAMES)
def test_rows_sum_to_one(pair: Make, name: str, dtype: str) -> None:
    both = pair(name, dtype)
    ids, types = both.encode(TEXTS)
    for layer in both.forward(ids, types, [], both.everything(len(ids))).weights:
        for text, weights in zip(ids, layer, strict=True):
            assert weights.shape == (both.heads, len(text), len(text))
            assert difference(weights.sum(-1), torch.ones(both.heads, len(text))) <= EXACT
            assert float(weights.min()) >= 0


@pytest.mark.parametrize(
    ("layers", "texts", "heads"),
    [
        ((3,), (4,), (1,)),
        ((1, 5), (0, 1, 2, 3), (0, 1, 2)),
        ((2, 3), (1, 6), (2, 0)),
        ((5,), (6, 0, 3), (2,)),
        ((1, 2, 3, 4, 5), (), (0,)),
        ((4,), (0, 1, 2, 3, 4, 5, 6), ()),
    ],
)
def test_any_layers_texts_and_heads(
    both: Pair, layers: tuple[int, ...], texts: tuple[int, ...], heads: tuple[int, ...]
) -> None:
    ids, types = both.encode(TEXTS)
    found = both.forward(ids, types, [both.layers], AttentionOptions(layers, texts, heads))
    assert [len(weights) for weights in found.weights] == [len(texts)] * len(layers)
    for layer, weights in zip(layers, found.weights, strict=True):
        for text, got in zip(texts, weights, strict=True):
            want = both.output(ids[text], types[text]).attentions[layer - 1][0]
            assert difference(got, want[list(heads)]) <= EXACT


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_output_options_for_weights_change_no_state(pair: Make, dtype: str) -> None:
    both = pair("roberta", dtype)
    ids, types = both.encode(TEXTS)
    layers = list(range(both.layers + 1))
    plain = both.run(ids, types, layers)
    with_weights = both.forward(ids, types, layers, AttentionOptions((2, 4), (1, 2), (0, 2))).states
    assert all(torch.equal(*states) for states in zip(plain, with_weights, strict=True))
    assert both.forward(ids, types, layers).weights == []


def test_the_fast_way_has_the_same_weights_inside(both: Pair) -> None:
    """With the identity for values, the context of the fast attention is the weights themselves."""
    ids, types = both.encode(TEXTS)
    (weights,) = both.forward(ids, types, [], AttentionOptions((1,), (0,), (0,))).weights
    module = both.program.module
    (layer,) = [each for name, each in module.named_modules() if name == "encoder.layers.0"]
    embedded = both.program.embed(packed(ids[:1]), packed(types[:1]), sizes(ids[:1]))
    qkv = layer.query_key_value(embedded).clone()
    tokens, size = len(ids[0]), qkv.size(1) // 3 // both.heads
    assert tokens <= size
    qkv[:, 2 * size * both.heads :] = 0
    qkv[:, 2 * size * both.heads : 2 * size * both.heads + tokens] = torch.eye(tokens)
    q, k, v = qkv.view(1, tokens, 3, both.heads, size).permute(2, 0, 3, 1, 4)
    context = torch.nn.functional.scaled_dot_product_attention(q, k, v)[0, 0, :, :tokens]
    assert difference(context, weights[0][0]) <= EXACT


@pytest.fixture
def spoil(both: Pair) -> Iterator[Callable[..., None]]:
    """Return a function that makes layers' weights NaN, or the named parts of them, for one test."""
    parameters = dict(both.program.module.named_parameters())
    kept: dict[str, Tensor] = {}

    def break_layer(layer: int, *parts: str) -> None:
        for name, parameter in parameters.items():
            of_layer = name.startswith(f"encoder.layers.{layer - 1}.")
            if of_layer and (
                not parts or name.startswith(tuple(f"encoder.layers.{layer - 1}.{part}." for part in parts))
            ):
                kept[name] = parameter.clone()
                parameter.fill_(torch.nan)

    yield break_layer
    for name, parameter in kept.items():
        parameters[name].copy_(parameter)


def all_finite(found: Any) -> bool:
    tensors = [*found.states, *(weights for layer in found.weights for weights in layer)]
    return all(bool(tensor.isfinite().all()) for tensor in tensors)


@pytest.mark.parametrize(
    ("layers", "wanted", "deepest"),
    [([0], (), 0), ([2, 1], (), 2), ([1], (3,), 3), ([], (2, 4), 4), ([4], (1,), 4), ([3], (3,), 3)],
)
def test_layers_above_the_highest_asked_for_play_no_part(
    both: Pair, spoil: Callable[..., None], layers: list[int], wanted: tuple[int, ...], deepest: int
) -> None:
    for layer in range(deepest + 1, both.layers + 1):
        spoil(layer)
    ids, types = both.encode(TEXTS)
    found = both.forward(ids, types, layers, AttentionOptions(wanted, (0, 2), (1,)))
    assert all_finite(found)
    assert len(found.states) == len(layers)
    assert [len(weights) for weights in found.weights] == [2] * len(wanted)
    beyond = both.forward(ids, types, [both.layers])
    assert not all_finite(beyond)


def test_a_layer_wanted_for_its_weights_alone_stops_after_them(both: Pair, spoil: Callable[..., None]) -> None:
    spoil(3, "attention_output", "intermediate", "output")
    ids, types = both.encode(TEXTS)
    assert all_finite(both.forward(ids, types, [2], AttentionOptions((1, 3), (0, 1), (0,))))
    assert not all_finite(both.forward(ids, types, [3], AttentionOptions((3,), (0,), (0,))))


def test_products_are_counted(both: Pair) -> None:
    """A layer has four matrix products, and one for its weights alone; only the layers asked for have a softmax."""
    ids, types = both.encode(TEXTS)

    def count(layers: list[int], *wanted: int) -> tuple[int, int]:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            both.forward(ids, types, layers, AttentionOptions(wanted, (0,), (0,)))
        events = {event.key: event.count for event in profile.key_averages()}
        linear = sum(n for key, n in events.items() if key.startswith(("aten::linear", "bertstream::linear")))
        return linear, events.get("aten::softmax", 0)

    assert count([2]) == (8, 0)
    assert count([5], 2) == (20, 1)
    assert count([], 1) == (1, 1)
    assert count([1], 3) == (9, 1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_step_by_step_is_all_at_once(pair: Make, name: str, dtype: str) -> None:
    both = pair(name, dtype)
    ids, types = both.encode(TEXTS)
    layers, options = list(range(both.layers + 1)), both.everything(len(ids))
    at_once = both.forward(ids, types, layers, options)
    states = both.program.embed(packed(ids), packed(types), sizes(ids))
    assert torch.equal(states, at_once.states[0])
    for layer in layers[1:]:
        step = AttentionOptions((layer,), options.texts, options.heads)
        found = both.program.advance(states, sizes(ids), layer - 1, [layer], step)
        (states,), (weights,) = found.states, found.weights
        assert torch.equal(states, at_once.states[layer])
        assert all(torch.equal(*each) for each in zip(weights, at_once.weights[layer - 1], strict=True))


def test_steps_may_be_long_and_leave_their_start_as_it_was(both: Pair) -> None:
    ids, types = both.encode(TEXTS)
    every = both.run(ids, types, list(range(both.layers + 1)))
    start = every[1].clone()
    found = both.program.advance(start, sizes(ids), 1, [4, 1, 3], AttentionOptions((2, 5), (3,), (0,)))
    assert [torch.equal(got, every[layer]) for got, layer in zip(found.states, (4, 1, 3), strict=True)] == [True] * 3
    assert [len(weights) for weights in found.weights] == [1, 1]
    assert torch.equal(start, every[1])


def test_nothing_asked_for_is_nothing_computed(both: Pair, spoil: Callable[..., None]) -> None:
    for layer in range(1, both.layers + 1):
        spoil(layer)
    ids, types = both.encode(TEXTS)
    states = both.program.embed(packed(ids), packed(types), sizes(ids))
    found = both.program.advance(states, sizes(ids), 0, [])
    assert (found.states, found.weights) == ([], [])
    assert all_finite(both.program.advance(states, sizes(ids), 0, [0]))


def test_layers_below_the_start_are_refused(both: Pair) -> None:
    states = torch.zeros(3, 36)
    with pytest.raises(ValueError, match="earlier layers cannot be computed from the states of layer 2"):
        both.program.advance(states, [3], 2, [1, 3])
    with pytest.raises(ValueError, match="earlier layers cannot be computed from the states of layer 2"):
        both.program.advance(states, [3], 2, [3], AttentionOptions((2, 3), (0,), (0,)))
