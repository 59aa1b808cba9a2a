"""Test that what is computed of a text is, bit for bit, the same alone and in any batch: states, vectors, logits."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import Tensor, nn

from bertstream.workers import native
from bertstream.workers.compile import checkpoints
from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.native import processor
from bertstream.workers.programs.program import ScriptedProgram
from tests.support.checkpoints import TEXTS, tiny_bert
from tests.support.head_pairs import HeadPair, Text
from tests.support.pairs import Pair, sizes
from tests.support.sentence import HIDDEN, SENTENCE_MAKERS, dense, save_sentence

pytestmark = [
    pytest.mark.skipif(not native.status()[0], reason=native.status()[1]),
    pytest.mark.skipif(not processor.is_x86(), reason="ATen multiplies float32 and bfloat16 on other makes than x86"),
]

Checkpoint = Callable[[str], Path]
INPUTS: tuple[Text, ...] = (*TEXTS, ("a fox", "the dog sleeps in the sun"), ("Größere Straßen", ""))
# Those of the layers, of a projection (ELECTRA), of a table of distances (MPNet), of angles, windows and gates, of
# scores by distance (DeBERTa), of layers that share them (ALBERT).
FAMILIES = (
    *("bert", "roberta-pad", "distilbert", "electra", "mpnet"),
    *("modernbert", "nomic_bert", "deberta-v2", "albert"),
)
HEADS = (
    *("bert-pretraining", "bert-untied-mlm", "roberta-classifier", "distilbert-qa", "electra-mlm", "electra-choice"),
    *("modernbert-mlm", "modernbert-mean"),
)
MODES = ("cls", "mean", "max", "mean_sqrt_len", "weighted_mean", "last_token")


def check_products(program: ScriptedProgram) -> None:
    if platform.machine().lower() not in ("x86_64", "amd64"):
        pytest.skip("products are ATen's here, whose sums depend on the batch")
    assert program.description.products in ("packed", "int8")


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def vectors(program: ScriptedProgram, states: Tensor, lengths: list[int]) -> list[Tensor]:
    """Return what is pooled from the last states in all ways that the program has."""
    found = [program.pool(states, lengths, mode) for mode in MODES]
    if program.description.has_pooler:
        starts = torch.tensor([0, *lengths[:-1]]).cumsum(0)
        found.append(program.pooler(states[starts]))
    return found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("name", [*FAMILIES, ""])
def test_states_and_vectors(checkpoint: Checkpoint, compile_cache: Path, name: str, dtype: str) -> None:
    source = checkpoint(name) if name else checkpoints.embedded()
    both = Pair(source, compile_cache, dtype=dtype)
    check_products(both.program)
    ids, types = both.encode(INPUTS)
    ids, types = [*ids, [40], ids[0]], [*types, [0], types[0]]
    layers = list(range(both.layers + 1))
    together = [layer.split(sizes(ids)) for layer in both.run(ids, types, layers)]
    pooled = vectors(both.program, torch.cat(together[-1]), sizes(ids))
    for i, (text, kinds) in enumerate(zip(ids, types, strict=True)):
        alone = both.run([text], [kinds], layers)
        assert all(torch.equal(state, layer[i]) for state, layer in zip(alone, together, strict=True))
        own = vectors(both.program, alone[-1], [len(text)])
        assert all(torch.equal(one[0], all_of_them[i]) for one, all_of_them in zip(own, pooled, strict=True))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("name", HEADS)
def test_logits(checkpoint: Checkpoint, compile_cache: Path, name: str, dtype: str) -> None:
    both = HeadPair(checkpoint(name), compile_cache, dtype=dtype)
    check_products(both.program)
    for head in both.heads:
        together = both.logits(head, INPUTS)
        for text, want in zip(INPUTS, together, strict=True):
            assert torch.equal(both.logits(head, (text,))[0], want)


@pytest.mark.parametrize("activation", ["silu", "gelu_pytorch_tanh", "gelu"])
def test_activations_of_layers_and_heads(compile_cache: Path, tmp_path: Path, activation: str) -> None:
    """Rows are of no whole vectors, and so many that several threads share them."""
    config: dict[str, Any] = {"num_hidden_layers": 2, "intermediate_size": 71, "hidden_act": activation}
    both = HeadPair(tiny_bert(tmp_path / "bert", architecture="BertForMaskedLM", **config), compile_cache)
    check_products(both.program)
    alone = [both.logits("fill_mask", (text,))[0] for text in INPUTS]
    for count in (1, 3):
        with threads(count):
            together = both.logits("fill_mask", INPUTS)
        assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))


@pytest.mark.parametrize("activation", [nn.GELU, nn.Mish, nn.Sigmoid])
def test_activations_of_dense_layers(
    checkpoint: Checkpoint, compile_cache: Path, tmp_path: Path, activation: type[nn.Module]
) -> None:
    layer = dense(HIDDEN, 37, activation())
    made = save_sentence(tmp_path / "dense", checkpoint("bert"), Pooling(HIDDEN, "mean"), layer)
    program = ScriptedProgram.load(compile_model(made, cache=compile_cache), "cpu")
    check_products(program)
    states = torch.randn(2001, HIDDEN, generator=torch.Generator().manual_seed(0)) * 3
    alone = torch.cat([program.pool(state, [1], "checkpoint") for state in states.split(1)])
    for count in (1, 3):
        with threads(count):
            assert torch.equal(program.pool(states, [1] * len(states), "checkpoint"), alone)


@pytest.mark.parametrize("name", ["dense", "chain"])
def test_vectors_of_sentence_modules(checkpoint: Checkpoint, compile_cache: Path, tmp_path: Path, name: str) -> None:
    made = SENTENCE_MAKERS[name](tmp_path / name, checkpoint("bert"))
    program = ScriptedProgram.load(compile_model(made, cache=compile_cache), "cpu")
    check_products(program)
    hidden, lengths = program.description.hidden_size, [7, 5, 1, 5, 9, 9, 3]
    states = torch.randn(sum(lengths), hidden, generator=torch.Generator().manual_seed(0))
    together = program.pool(states, lengths, "checkpoint")
    for text, part in enumerate(states.split(lengths)):
        assert torch.equal(program.pool(part, [len(part)], "checkpoint")[0], together[text])


def test_states_of_long_batches(compile_cache: Path) -> None:
    """Rows are shared out among panels, and their last tiles are of other heights."""
    program = ScriptedProgram.load(compile_model(checkpoints.embedded(), cache=compile_cache), "cpu")
    check_products(program)
    lengths = [200, 3, 57, 128, 300, 1, 90]
    ids = torch.randint(1000, 20_000, (sum(lengths),), generator=torch.Generator().manual_seed(1)).int()
    layers = [program.description.layers]
    (together,) = program.hidden_states(ids, None, lengths, layers)
    for text, want in zip(ids.split(lengths), together.split(lengths), strict=True):
        (alone,) = program.hidden_states(text, None, [len(text)], layers)
        assert torch.equal(alone, want)
