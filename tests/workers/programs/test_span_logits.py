"""Logits of spans in the shorter precisions: those of float32's head for states that are near, alone as in a batch.

In float32 they are held against the checkpoint run as its authors do (tests/e2e/test_zero_shot_entities.py).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.programs.program import ScriptedProgram

Checkpoint = Callable[[str], Path]
LABELS = 3
LENGTHS = [12, 5, 31, 4, 9]


def states_of(program: ScriptedProgram, texts: list[Tensor]) -> list[Tensor]:
    lengths = [len(text) for text in texts]
    types = torch.zeros(sum(lengths), dtype=torch.int32) if program.description.type_vocabulary_size else None
    (states,) = program.hidden_states(torch.cat(texts), types, lengths, [program.description.layers])
    return list(states.split(lengths))


def logits_of(program: ScriptedProgram, states: list[Tensor]) -> list[Tensor]:
    return [program.span_logits("zero_shot_entities", each, LABELS) for each in states]


@pytest.mark.parametrize(("dtype", "near"), [("bfloat16", 0.9997), ("int8", 0.999)])
@pytest.mark.parametrize("name", ["gliner", "gliner-bert"])
def test_short_precisions(checkpoint: Checkpoint, compile_cache: Path, name: str, dtype: str, near: float) -> None:
    whole = ScriptedProgram.load(compile_model(checkpoint(name), cache=compile_cache), "cpu")
    short = ScriptedProgram.load(compile_model(checkpoint(name), cache=compile_cache, dtype=dtype), "cpu")
    generator, size = torch.Generator().manual_seed(5), whole.description.vocabulary_size
    texts = [torch.randint(5, size, (length,), generator=generator, dtype=torch.int32) for length in LENGTHS]
    states = states_of(short, texts)
    together = logits_of(short, states)
    for got, want in zip(states, states_of(whole, texts), strict=True):
        assert torch.cosine_similarity(got.float(), want, dim=-1).min() >= near
    torch.testing.assert_close(together, logits_of(whole, [each.float() for each in states]), atol=1e-4, rtol=1e-4)
    for text, got in zip(texts, together, strict=True):
        assert torch.equal(logits_of(short, states_of(short, [text]))[0], got)
