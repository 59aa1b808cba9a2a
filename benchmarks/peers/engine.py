"""bertstream's engine alone: from tokens to vectors, without gRPC, tokenizer and other processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.peers import Choice, Peer, Settings, Vectors
from benchmarks.peers.feeding import tokenizer
from benchmarks.peers.torch_settings import set_threads
from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.contract import Batch, OutputOptions, Pooling, Work
from bertstream.workers.engine.batch import prepare
from bertstream.workers.engine.engine import Launched, launch
from bertstream.workers.process.worker import record_graphs
from bertstream.workers.programs.program import ScriptedProgram

Ids = NDArray[np.int32]
BATCH_TOKENS = {"cpu": 1024, "cuda": 16384}  # the defaults of the server


@dataclass(frozen=True, slots=True)
class TokenizedTexts:
    """Texts as the ids of their tokens."""

    ids: list[Ids]

    def __iter__(self) -> Iterator[Ids]:
        return iter(self.ids)


class TokenPeer(Peer):
    """A peer that is timed from tokens on. The option "batch_tokens" sets other batches than the server's."""

    def __init__(self, settings: Settings) -> None:
        set_threads(settings)
        self.settings = settings
        self.tokenizer = tokenizer(settings)
        self.batch_tokens = int(settings.options.get("batch_tokens", BATCH_TOKENS[settings.device]))

    def ready(self, texts: list[str]) -> TokenizedTexts:
        """Return the texts tokenized, before timing."""
        return TokenizedTexts([np.array(encoding.ids, np.int32) for encoding in self.tokenizer.encode_batch(texts)])

    def versions(self) -> dict[str, str]:
        """Return the version of torch."""
        return {"torch": torch.__version__}

    def planned(self, rows: Sequence[Ids]) -> list[list[int]]:
        """Return the indexes of the rows of each batch: the longest first, as many as fit the budget of tokens."""
        return planned([len(row) for row in rows], self.batch_tokens)


class Engine(TokenPeer):
    """The engine with one program in this process."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        directory = compile_model(settings.directory, dtype=settings.precision, device=settings.device)
        program = ScriptedProgram.load(directory, settings.device)
        self.last = program.description.layers
        self.output_options = OutputOptions(("pooled",), Pooling("mean", (self.last,), normalize=True))
        self.program = record_graphs(program, self.batch_tokens) if settings.device == "cuda" else program

    def encode(self, rows: TokenizedTexts, choice: Choice) -> Vectors:
        """Return the vectors [n, d] of all texts."""
        if not rows.ids:  # more processes than texts
            return np.zeros((0, 0), np.float32)
        parts = self.planned(rows.ids)
        vectors = np.concatenate(list(self.batches([rows.ids[row] for row in part] for part in parts)))
        ordered = np.empty_like(vectors)
        ordered[np.concatenate(parts)] = vectors
        return ordered

    def encode_one(self, rows: list[Ids]) -> Vectors:
        """Return the vector [1, d] of one text."""
        return vectors_of(self.launch(rows))

    def batches(self, parts: Iterable[list[Ids]]) -> Iterator[Vectors]:
        """Yield the vectors [n, d] of each batch, as a worker does: a GPU gets the next one before this one is read."""
        before: Launched | None = None
        for rows in parts:
            launched = self.launch(rows)
            if before is not None:
                yield vectors_of(before)
            before = launched
        if before is not None:
            yield vectors_of(before)

    def launch(self, rows: list[Ids]) -> Launched:
        """One batch."""
        work = Work(1, Batch(np.concatenate(rows), np.array([len(row) for row in rows], np.int32)), self.output_options)
        return launch(self.program, prepare([work], self.last, self.settings.device))


def vectors_of(batch: Launched) -> Vectors:
    """Wait for a batch, and return its vectors [n, d]."""
    (outputs,) = batch.outputs()
    vectors: Vectors = outputs["pooled"].numpy()
    return vectors


def planned(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Return the indexes of the texts of each batch, the longest first; a batch has at least one text."""
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
    """Return the adapter."""
    return Engine(settings)
