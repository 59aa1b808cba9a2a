"""Decode by hand as an engine does: track which sequence owns which rows of the cache."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from bertstream.workers.programs.program import ScriptedProgram


@dataclass
class Sequence:
    """Hold what the engine knows of one sequence."""

    ids: list[int] = field(default_factory=list)  # that are computed already
    rows: list[int] = field(default_factory=list)  # one for each of these ids
    source: list[int] = field(default_factory=list)  # rows of the source


class Decoding:
    """Hold a program, a cache, and sequences in it.

    Rows are given out shuffled, so that none is right by luck.
    """

    def __init__(self, program: ScriptedProgram, rows: int = 600) -> None:
        self.program = program
        self.cache = program.new_cache(rows)
        self._free = torch.randperm(rows, generator=torch.Generator().manual_seed(3)).tolist()

    def prefill(self, prompts: list[list[int]]) -> tuple[list[Sequence], Tensor]:
        """Compute prompts, and return their sequences and the logits [n, V] after them."""
        sequences = [Sequence(list(ids), self._take(len(ids))) for ids in prompts]
        rows = torch.tensor([row for sequence in sequences for row in sequence.rows])
        logits = self.program.prefill(self.cache, packed(prompts), None, [len(ids) for ids in prompts], rows)
        return sequences, logits

    def encode(self, texts: list[list[int]]) -> list[Sequence]:
        sequences = [Sequence(source=self._take(len(ids))) for ids in texts]
        rows = torch.tensor([row for sequence in sequences for row in sequence.source])
        self.program.encode_source(self.cache, packed(texts), None, [len(ids) for ids in texts], rows)
        return sequences

    def step(self, sequences: list[Sequence], tokens: list[int]) -> Tensor:
        """Compute one more token of each sequence; return logits [B, V]."""
        positions = torch.tensor([len(sequence.ids) for sequence in sequences])
        for sequence, token in zip(sequences, tokens, strict=True):
            sequence.ids.append(token)
            sequence.rows += self._take(1)
        own = torch.tensor([sequence.rows[-1] for sequence in sequences])
        pasts = padded([sequence.rows for sequence in sequences])
        sources = padded([sequence.source for sequence in sequences]) if sequences[0].source else (None, None)
        return self.program.step(self.cache, torch.tensor(tokens), positions, own, *pasts, *sources)

    def fork(self, sequence: Sequence) -> Sequence:
        """Return a beam that shares the rows so far."""
        return Sequence(list(sequence.ids), list(sequence.rows), sequence.source)

    def _take(self, count: int) -> list[int]:
        taken, self._free = self._free[:count], self._free[count:]
        assert len(taken) == count
        return taken


def packed(rows: list[list[int]]) -> Tensor:
    return torch.tensor([id for row in rows for id in row], dtype=torch.int32)


def padded(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Return the rows as [B, M], padded with any row, and their lengths [B]."""
    longest = max(len(row) for row in rows)
    filled = [row + [rows[0][0]] * (longest - len(row)) for row in rows]
    return torch.tensor(filled), torch.tensor([len(row) for row in rows])
