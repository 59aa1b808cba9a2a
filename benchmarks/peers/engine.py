"""bertstream's engine alone: tokens in, vectors out, without gRPC, tokenizer and other processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.peers import Base, Choice, Settings, Vectors
from benchmarks.peers.feeding import tokenizer
from benchmarks.peers.torch_settings import set_threads
from bertstream.workers.compile import compile_model
from bertstream.workers.contract import Batch, Pooling, Wishes, Work
from bertstream.workers.engine import prepare, run
from bertstream.workers.program import Program

BATCH_TOKENS = {"cpu": 1024, "cuda": 16384}  # as the server has by default


@dataclass(frozen=True, slots=True)
class Rows:
    """Texts as the ids of their tokens."""

    ids: list[list[int]]

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.ids)


class Tokens(Base):
    """What is timed begins with tokens."""

    def __init__(self, settings: Settings) -> None:
        set_threads(settings)
        self.settings = settings
        self.tokenizer = tokenizer(settings)

    def ready(self, texts: list[str]) -> Rows:
        """Tokenized before any clock runs."""
        return Rows([encoding.ids for encoding in self.tokenizer.encode_batch(texts)])

    def versions(self) -> dict[str, str]:
        """Of what computes."""
        return {"torch": torch.__version__}

    def planned(self, rows: Sequence[list[int]]) -> list[list[int]]:
        """Which rows form each batch: the longest first, as many as the server's budget of tokens admits."""
        return planned([len(row) for row in rows], BATCH_TOKENS[self.settings.device])


class Engine(Tokens):
    """One program in this process."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        directory = compile_model(settings.directory, dtype=settings.precision, device=settings.device)
        self.program = Program.load(directory, settings.device)
        self.last = self.program.description.layers
        self.wishes = Wishes(("pooled",), Pooling("mean", (self.last,), normalize=True))

    def encode(self, rows: Rows, choice: Choice) -> Vectors:
        """All texts. -> [n, d]"""
        if not rows.ids:  # more processes than texts
            return np.zeros((0, 0), np.float32)
        parts = self.planned(rows.ids)
        vectors = np.concatenate([self.batch([rows.ids[row] for row in part]) for part in parts])
        ordered = np.empty_like(vectors)
        ordered[np.concatenate(parts)] = vectors
        return ordered

    def encode_one(self, rows: list[list[int]]) -> Vectors:
        """One text. -> [1, d]"""
        return self.batch(rows)

    def batch(self, rows: list[list[int]]) -> Vectors:
        """As a worker computes it. -> [n, d]"""
        ids = np.concatenate([np.asarray(row, np.int32) for row in rows])
        work = Work(1, Batch(ids, np.array([len(row) for row in rows], np.int32)), self.wishes)
        (outputs,) = run(self.program, prepare([work], self.last, self.settings.device))
        vectors: Vectors = outputs["pooled"].cpu().numpy()
        return vectors


def planned(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Places of texts by batch, the longest first; a batch has at least one text."""
    batches: list[list[int]] = []
    room = 0
    for text in sorted(range(len(lengths)), key=lambda text: -lengths[text]):
        if not batches or lengths[text] > room:
            batches.append([])
            room = batch_tokens
        batches[-1].append(text)
        room -= lengths[text]
    return batches


def load(settings: Settings) -> Engine:
    """The adapter."""
    return Engine(settings)
