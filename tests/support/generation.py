"""Provide programs that generate without a compiled model, and a generator whose turns tests take by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bertstream.workers.contract import Completed, Failure, Generate, Generated, GenerationOptions
from bertstream.workers.generation.generator import Generator
from bertstream.workers.generation.queue import GenerationQueue
from bertstream.workers.programs.description import GenerationDescription
from bertstream.workers.serving.connections import Reply
from bertstream.workers.serving.running_record import Computing, RunningRecord

Ids = tuple[int, ...]


class HistoryProgram:
    """Remember which token each row stands for, and make logits from the whole history, without a real cache.

    So an answer is right only where the rows of every sequence are those of its own tokens, in order.
    """

    def __init__(self, vocabulary_size: int = 50) -> None:
        self.vocabulary_size = vocabulary_size
        self.calls: list[tuple[str, int]] = []  # what was computed, and for how many sequences
        self._tokens: NDArray[np.int64] = np.empty(0, np.int64)

    def logits(self, source: Ids | None, tokens: Ids) -> Tensor:
        """Return logits [V], a fixed function of the source, the last two tokens and the number of tokens."""
        table = _table(self.vocabulary_size)
        last = table[0, tokens[-1]] + 0.5 * table[1, tokens[-2] if len(tokens) > 1 else 0] + 0.2 * table[2, len(tokens)]
        return last if source is None else last + 0.5 * table[3, sum(source) % self.vocabulary_size]

    def new_cache(self, rows: int) -> list[Tensor]:
        self._tokens = np.full(rows, -1, np.int64)
        return [torch.zeros(rows)]

    def prefill(
        self, cache: list[Tensor], ids: Tensor, type_ids: Tensor | None, lengths: list[int], rows: Tensor
    ) -> Tensor:
        self._write(cache, ids, rows)
        self.calls.append(("prefill", len(lengths)))
        return torch.stack([self.logits(None, tuple(text.tolist())) for text in ids.split(lengths)])

    def encode_source(
        self, cache: list[Tensor], ids: Tensor, type_ids: Tensor | None, lengths: list[int], rows: Tensor
    ) -> None:
        self._write(cache, ids, rows)
        self.calls.append(("encode_source", len(lengths)))

    def step(
        self,
        cache: list[Tensor],
        ids: Tensor,
        positions: Tensor,
        rows: Tensor,
        past: Tensor,
        past_lengths: Tensor,
        source: Tensor | None = None,
        source_lengths: Tensor | None = None,
        type_ids: Tensor | None = None,
    ) -> Tensor:
        self._write(cache, ids, rows)
        self.calls.append(("step", ids.numel()))
        assert positions.tolist() == (past_lengths - 1).tolist()
        assert past.gather(1, positions[:, None])[:, 0].tolist() == rows.tolist()
        histories = self._read(past, past_lengths)
        sources: Sequence[Ids | None] = [None] * len(histories)
        if source is not None and source_lengths is not None:
            sources = self._read(source, source_lengths)
        return torch.stack([self.logits(*each) for each in zip(sources, histories, strict=True)])

    def _write(self, cache: list[Tensor], ids: Tensor, rows: Tensor) -> None:
        assert rows.dtype == torch.int64
        assert len(set(rows.tolist())) == rows.numel() == ids.numel()
        assert cache[0].numel() == self._tokens.size
        self._tokens[rows.numpy()] = ids.numpy()

    def _read(self, rows: Tensor, lengths: Tensor) -> list[Ids]:
        assert rows.shape[1] == int(lengths.max())
        return [
            tuple(self._tokens[row[:length]].tolist())
            for row, length in zip(rows.numpy(), lengths.tolist(), strict=True)
        ]


class TransformersProgram(HistoryProgram):
    """Run a model of transformers, which computes each history anew."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._model = model
        self.logits = lru_cache(maxsize=None)(self._logits)  # type: ignore[method-assign]

    def _logits(self, source: Ids | None, tokens: Ids) -> Tensor:
        inputs = {"input_ids": torch.tensor([tokens])}
        if source is not None:
            inputs = {"input_ids": torch.tensor([source]), "decoder_input_ids": torch.tensor([tokens])}
        found: Tensor = self._model(**inputs, use_cache=False).logits[0, -1].detach()
        return found


@lru_cache
def _table(vocabulary_size: int) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(4, max(vocabulary_size, 600), vocabulary_size, generator=generator)


class Caller:
    """Collect the answers."""

    def __init__(self, number: int = 4) -> None:
        self.number = number
        self.replies: list[Reply] = []

    def reply(self, make: Callable[[], Reply]) -> None:
        self.replies.append(make())

    def completed(self, work_id: int) -> Completed:
        (found,) = [each for each in self.replies if isinstance(each, Completed) and each.id == work_id]
        return found

    def failures(self) -> dict[int, Failure]:
        return {each.id: each for each in self.replies if isinstance(each, Failure)}

    def streamed(self, work_id: int, sequence: int = 0) -> list[int]:
        """Return the tokens of one answer, as they came."""
        tokens: list[int] = []
        for each in self.replies:
            if isinstance(each, Generated):
                mine = (each.works == work_id) & (each.sequences == sequence)
                tokens += each.tokens[mine].tolist()
        return tokens


class Bench:
    """Hold a generator whose turns a test takes."""

    def __init__(
        self,
        directory: Path,
        program: HistoryProgram | None = None,
        *,
        encoder: bool = False,
        cache_tokens: int = 2000,
        queue_tokens: int = 100_000,
        batch_tokens: int = 200,
        max_sequences: int = 64,
        vocabulary_size: int = 50,
        max_tokens: int = 500,
    ) -> None:
        self.program = program or HistoryProgram(vocabulary_size)
        self.caller = Caller()
        self.queue = GenerationQueue(queue_tokens, cache_tokens)
        self.record = directory / "running"
        self.computing = Computing(RunningRecord(self.record))
        self.generator = Generator(
            self.program,
            GenerationDescription(vocabulary_size, max_tokens, decoder_start_token_id=2 if encoder else -1),
            self.queue,
            self.computing,
            batch_tokens=batch_tokens,
            max_sequences=max_sequences,
        )

    def add(self, work: Generate) -> None:
        assert self.queue.add(work, self.caller) is None

    def finish(self) -> None:
        """Take turns until nothing is left."""
        while self.generator.turn():
            pass

    def run(self, *works: Generate) -> list[Completed]:
        for work in works:
            self.add(work)
        self.finish()
        return [self.caller.completed(work.id) for work in works]


def make_generate(work_id: int, ids: Sequence[int] = (5, 6, 7), *, max_new_tokens: int = 5, **options: Any) -> Generate:
    """Make a Generate; `options` are of GenerationOptions, or of Generate itself."""
    own = {
        name: options.pop(name)
        for name in ("priority", "deadline", "type_ids", "alone", "caller", "weight", "admitted")
        if name in options
    }
    return Generate(work_id, np.array(ids, np.int32), GenerationOptions(max_new_tokens, **options), **own)


def answers_of(completed: Completed) -> list[list[int]]:
    """Return the tokens of each answer."""
    return [part.tolist() for part in np.split(completed.tokens, np.cumsum(completed.lengths)[:-1])]
