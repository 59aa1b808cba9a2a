"""Test that what is computed of a text is, bit for bit, the same alone and in any batch: states, vectors, logits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bertstream.workers import native
from bertstream.workers.compile import checkpoints
from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.programs.program import ScriptedProgram
from tests.support.checkpoints import TEXTS
from tests.support.head_pairs import HeadPair, Text
from tests.support.pairs import Pair, sizes
from tests.support.sentence import SENTENCE_MAKERS

pytestmark = pytest.mark.skipif(not native.status()[0], reason=native.status()[1])

Checkpoint = Callable[[str], Path]
INPUTS: tuple[Text, ...] = (*TEXTS, ("a fox", "the dog sleeps in the sun"), ("Größere Straßen", ""))
# Those of the layers, of a projection (ELECTRA), of a table of distances (MPNet).
FAMILIES = ("bert", "roberta-pad", "distilbert", "electra", "mpnet")
HEADS = ("bert-pretraining", "bert-untied-mlm", "roberta-classifier", "distilbert-qa", "electra-mlm", "electra-choice")
MODES = ("cls", "mean", "max", "mean_sqrt_len", "weighted_mean", "last_token")


def skip_plain(program: ScriptedProgram) -> None:
    if program.description.products == "plain":
        pytest.skip("products are ATen's here, whose sums depend on the batch")


def vectors(program: ScriptedProgram, states: Tensor, lengths: list[int]) -> list[Tensor]:
    """Return what is pooled from the last states in all ways that the program has."""
    found = [program.pool(states, lengths, mode) for mode in MODES]
    if program.description.has_pooler:
        starts = torch.tensor([0, *lengths[:-1]]).cumsum(0)
        found.append(program.pooler(states[starts]))
    return found


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("name", [*FAMILIES, ""])
def test_states_and_vectors(checkpoint: Checkpoint, compile_cache: Path, name: str, dtype: str) -> None:
    source = checkpoint(name) if name else checkpoints.embedded()
    both = Pair(source, compile_cache, dtype=dtype)
    skip_plain(both.program)
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


@pytest.mark.parametrize("name", HEADS)
def test_logits(checkpoint: Checkpoint, compile_cache: Path, name: str) -> None:
    both = HeadPair(checkpoint(name), compile_cache)
    skip_plain(both.program)
    for head in both.heads:
        together = both.logits(head, INPUTS)
        for text, want in zip(INPUTS, together, strict=True):
            assert torch.equal(both.logits(head, (text,))[0], want)


@pytest.mark.parametrize("name", ["dense", "chain"])
def test_vectors_of_sentence_modules(checkpoint: Checkpoint, compile_cache: Path, tmp_path: Path, name: str) -> None:
    made = SENTENCE_MAKERS[name](tmp_path / name, checkpoint("bert"))
    program = ScriptedProgram.load(compile_model(made, cache=compile_cache), "cpu")
    skip_plain(program)
    hidden, lengths = program.description.hidden_size, [7, 5, 1, 5, 9, 9, 3]
    states = torch.randn(sum(lengths), hidden, generator=torch.Generator().manual_seed(0))
    together = program.pool(states, lengths, "checkpoint")
    for text, part in enumerate(states.split(lengths)):
        assert torch.equal(program.pool(part, [len(part)], "checkpoint")[0], together[text])


def test_states_of_long_batches(compile_cache: Path) -> None:
    """Rows are shared out among panels, and their last tiles are of other heights."""
    program = ScriptedProgram.load(compile_model(checkpoints.embedded(), cache=compile_cache), "cpu")
    skip_plain(program)
    lengths = [200, 3, 57, 128, 300, 1, 90]
    ids = torch.randint(1000, 20_000, (sum(lengths),), generator=torch.Generator().manual_seed(1)).int()
    layers = [program.description.layers]
    (together,) = program.hidden_states(ids, None, lengths, layers)
    for text, want in zip(ids.split(lengths), together.split(lengths), strict=True):
        (alone,) = program.hidden_states(text, None, [len(text)], layers)
        assert torch.equal(alone, want)
