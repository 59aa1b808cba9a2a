"""Test decoders alone: prompts and steps against transformers' forward, with its cache and without."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.programs.program import ScriptedProgram
from tests.support.checkpoints import tiny_bert
from tests.support.decoding import Decoding, packed
from tests.support.generation_checkpoints import FAMILIES, tiny_causal, transformers_model, with_cache
from tests.support.pairs import EXACT, Pair, difference

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 20], [14, 15, 16], list(range(20, 61))]


@dataclass
class Causal:
    """Hold a program, and transformers' model of the same checkpoint."""

    directory: Path
    program: ScriptedProgram
    model: Any

    @torch.no_grad()
    def full(self, ids: list[int]) -> Tensor:
        """Return logits [V] after these ids, by transformers without a cache."""
        logits: Tensor = self.model(torch.tensor([ids]), use_cache=False).logits[0, -1]
        return logits

    @torch.no_grad()
    def cached(self, prompt: list[int], more: list[int]) -> list[Tensor]:
        """Return logits [V] after the prompt and after each further token, by transformers with its cache."""
        cache = with_cache(DynamicCache())
        inputs = [prompt, *([token] for token in more)]
        return [self.model(torch.tensor([ids]), **cache).logits[0, -1] for ids in inputs]


@pytest.fixture(scope="session")
def causal(tmp_path_factory: pytest.TempPathFactory, compile_cache: Path) -> Callable[..., Causal]:
    @functools.cache
    def make(family: str = "bert", dtype: str = "float32", **config: Any) -> Causal:
        directory = tiny_causal(tmp_path_factory.mktemp("causal"), family, **config)
        program = ScriptedProgram.load(compile_model(directory, cache=compile_cache, dtype=dtype), "cpu")
        return Causal(directory, program, transformers_model(directory))

    return make


VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((family, {}) for family in FAMILIES),
    ("roberta", {"pad_token_id": 4}),
    ("bert", {"tie_word_embeddings": False, "hidden_act": "gelu_new"}),
    ("electra", {"tie_word_embeddings": False, "embedding_size": 36}),
]


@pytest.mark.parametrize(("family", "config"), VARIANTS, ids=lambda value: value if isinstance(value, str) else None)
def test_prompts_and_steps_are_those_of_transformers(
    causal: Callable[..., Causal], family: str, config: dict[str, Any]
) -> None:
    compared = causal(family, **config)
    decoding = Decoding(compared.program)
    sequences, logits = decoding.prefill(PROMPTS)
    found = [logits]
    for _ in range(5):
        found.append(decoding.step(sequences, found[-1].argmax(1).tolist()))
    assert all(logits.dtype == torch.float32 for logits in found)
    for i, (prompt, sequence) in enumerate(zip(PROMPTS, sequences, strict=True)):
        for step, want in enumerate(compared.cached(prompt, sequence.ids[len(prompt) :])):
            assert difference(found[step][i], want) < EXACT
            assert difference(found[step][i], compared.full(sequence.ids[: len(prompt) + step])) < EXACT


def test_sequences_of_any_age_share_a_step(causal: Callable[..., Causal]) -> None:
    compared = causal("bert")
    decoding = Decoding(compared.program)
    running, _ = decoding.prefill(PROMPTS[:2])
    for step in range(6):
        if step % 2:
            joined, logits = decoding.prefill([PROMPTS[2 + step // 2]])
            assert difference(logits[0], compared.full(joined[0].ids)) < EXACT
            running = [*joined, *running]
        if step == 4:
            del running[1]
        logits = decoding.step(running, [30 + step + i for i in range(len(running))])
        for i, sequence in enumerate(running):
            assert difference(logits[i], compared.full(sequence.ids)) < EXACT


def test_beams_share_rows(causal: Callable[..., Causal]) -> None:
    compared = causal("roberta")
    decoding = Decoding(compared.program)
    (first, other), _ = decoding.prefill([PROMPTS[2], PROMPTS[0]])
    decoding.step([first, other], [40, 41])
    beams = [first, decoding.fork(first), decoding.fork(first), other]
    for tokens in ([50, 51, 52, 53], [60, 61, 62, 63]):
        logits = decoding.step(beams, tokens)
        for i, beam in enumerate(beams):
            assert difference(logits[i], compared.full(beam.ids)) < EXACT
    assert beams[0].rows[:7] == beams[1].rows[:7]
    assert len({row for beam in beams for row in beam.rows}) == 6 + 3 + 2 + 3 * 2 + 2


def test_a_sequence_alone_gets_the_numbers_it_gets_among_others(causal: Callable[..., Causal]) -> None:
    compared = causal("electra")
    together, alone = Decoding(compared.program), Decoding(compared.program)
    sequences, _ = together.prefill(PROMPTS)
    (single,), _ = alone.prefill([PROMPTS[1]])
    for token in (70, 71, 72):
        among = together.step(sequences, [token] * len(sequences))
        assert difference(alone.step([single], [token])[0], among[1]) < EXACT


@pytest.mark.parametrize(("family", "padding"), [("roberta", 1), ("bert", 0)])
def test_padding_tokens_count_as_transformers_counts_them(
    causal: Callable[..., Causal], family: str, padding: int
) -> None:
    """RoBERTa gives a padding token within a prompt no position, and counts one that came by a step."""
    compared = causal(family)
    prompt, more = [8, padding, 9, padding, 10], [11, padding, 12, 13]
    decoding = Decoding(compared.program)
    (sequence,), logits = decoding.prefill([prompt])
    found = [logits[0], *(decoding.step([sequence], [token])[0] for token in more)]
    wanted = compared.cached(prompt, more)
    assert [difference(got, want) < EXACT for got, want in zip(found, wanted, strict=True)] == [True] * 5


def test_type_ids_of_a_prompt_count(causal: Callable[..., Causal]) -> None:
    compared = causal("bert")
    ids, types = PROMPTS[2], [0, 0, 0, 1, 1, 1]
    with torch.no_grad():
        want = compared.model(torch.tensor([ids]), token_type_ids=torch.tensor([types])).logits[0, -1]
    cache = compared.program.new_cache(10)
    got = compared.program.prefill(cache, packed([ids]), torch.tensor(types), [6], torch.arange(6))
    assert difference(got[0], want) < EXACT
    assert difference(got[0], compared.full(ids)) > 100 * EXACT


def test_the_last_position_can_be_used(causal: Callable[..., Causal]) -> None:
    compared = causal("xlm-roberta")
    prompt = [10 + i % 90 for i in range(compared.program.description.max_tokens - 1)]
    decoding = Decoding(compared.program)
    (sequence,), _ = decoding.prefill([prompt])
    assert difference(decoding.step([sequence], [20])[0], compared.full([*prompt, 20])) < EXACT


@pytest.mark.parametrize("family", FAMILIES)
def test_a_decoder_encodes_causally(causal: Callable[..., Causal], compile_cache: Path, family: str) -> None:
    """It has one copy of the layers, and gives what transformers gives for is_decoder."""
    pair = Pair(causal(family).directory, compile_cache)
    layers = list(range(pair.layers + 1))
    found = pair.forward(PROMPTS, None, layers, pair.everything(len(PROMPTS)))
    starts = torch.tensor([0, *(len(ids) for ids in PROMPTS)]).cumsum(0).tolist()
    for i, ids in enumerate(PROMPTS):
        wanted = pair.output(ids)
        for layer, want in enumerate(wanted.hidden_states):
            assert difference(found.states[layer][starts[i] : starts[i + 1]], want[0]) < EXACT
        for layer, want in enumerate(wanted.attentions):
            assert difference(found.weights[layer][i], want[0]) < EXACT
    assert found.weights[0][0].triu(1).abs().max() == 0


def test_half_precision_stays_near(causal: Callable[..., Causal]) -> None:
    exact, half = Decoding(causal("bert").program), Decoding(causal("bert", dtype="bfloat16").program)
    assert half.cache[0].dtype == torch.bfloat16
    (one,), want = exact.prefill([PROMPTS[4]])
    (other,), got = half.prefill([PROMPTS[4]])
    for token in (33, 44, 55):
        assert got.dtype == torch.float32
        assert torch.cosine_similarity(got, want).item() > 0.999
        want, got = exact.step([one], [token]), half.step([other], [token])
    assert torch.cosine_similarity(got, want).item() > 0.999


def test_numbers_do_not_depend_on_our_operators(
    causal: Callable[..., Causal], compile_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = causal("bert")
    monkeypatch.setenv("BERTSTREAM_NATIVE", "0")
    plain = ScriptedProgram.load(compile_model(compared.directory, cache=compile_cache), "cpu")
    assert not plain.description.native_operators
    ours, theirs = Decoding(compared.program), Decoding(plain)
    (one,), want = ours.prefill([PROMPTS[0]])
    (other,), got = theirs.prefill([PROMPTS[0]])
    assert difference(got, want) < EXACT
    assert difference(theirs.step([other], [9]), ours.step([one], [9])) < EXACT


def test_the_cache_is_a_pool_of_rows(causal: Callable[..., Causal]) -> None:
    cache = causal("bert").program.new_cache(17)
    assert [tuple(layer.shape) for layer in cache] == [(2, 17, 36)] * 5
    assert all(layer.dtype == torch.float32 for layer in cache)


def test_only_a_decoder_generates(causal: Callable[..., Causal], tmp_path: Path, compile_cache: Path) -> None:
    program = ScriptedProgram.load(compile_model(tiny_bert(tmp_path), cache=compile_cache), "cpu")
    assert program.description.generation is None
    one = torch.zeros(1, dtype=torch.int64)
    for generate in (
        lambda: program.new_cache(3),
        lambda: program.prefill([], one, None, [1], one),
        lambda: program.encode_source([], one, None, [1], one),
        lambda: program.step([], one, one, one, one.view(1, 1), one),
        lambda: causal("bert").program.encode_source([], one, None, [1], one),
        lambda: causal("bert").program.step([], one, one, one, one.view(1, 1), one, one.view(1, 1), one),
    ):
        with pytest.raises(ValueError, match="has no head"):
            generate()
    assert not hasattr(program.module, "prefill")  # nor has it code that it has no use for


def test_a_large_cache_takes_memory_only_as_it_is_used(causal: Callable[..., Causal]) -> None:
    program = causal("bert").program
    before = psutil.Process().memory_info().rss
    cache = program.new_cache(1 << 21)
    assert [tuple(each.shape) for each in cache] == [(2, 1 << 21, 36)] * 5
    assert not any(each[:, ::4096].any() for each in cache)
    assert psutil.Process().memory_info().rss - before < sum(each.nbytes for each in cache) // 8
