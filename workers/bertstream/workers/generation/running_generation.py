"""Track one generation under way, and answer whoever sent it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bertstream.workers.contract import Completed, Failure, FailureReason, Generate, Generated
from bertstream.workers.generation.beams import BeamSearch
from bertstream.workers.generation.cache import CacheRows
from bertstream.workers.generation.independent import Independent
from bertstream.workers.generation.processors import Rules
from bertstream.workers.generation.queue import Entry
from bertstream.workers.generation.search import Choice, FinishedSequence, Search
from bertstream.workers.generation.sequences import TokenSequence
from bertstream.workers.programs.description import GenerationDescription
from bertstream.workers.ragged import Ints
from bertstream.workers.serving.outlook import overloaded

if TYPE_CHECKING:
    from bertstream.workers.serving.connections import Connection, Reply


class RunningGeneration:
    """Hold a generation's sequences, with their rows and, where there is an encoder, the rows of its text."""

    def __init__(self, entry: Entry, description: GenerationDescription, cache: CacheRows) -> None:
        self.entry = entry
        self.turns = 0  # in which it has gone on, with one token for each of its sequences
        work = entry.work
        self._source: Ints | None = None
        self._started: float | None = None
        start = work.ids
        if description.decoder_start_token_id >= 0:
            self._source = cache.allocate(work.ids.size)
            start = np.array([description.decoder_start_token_id], np.int32)
        # As in transformers, new tokens have the type of the prompt's last token.
        type_id = 0 if work.type_ids is None or self._source is not None else int(work.type_ids[-1])
        limit = max(1, min(work.options.max_new_tokens, description.max_tokens - start.size))
        rules = Rules(work.options, description.vocabulary_size)
        root = TokenSequence(start, limit, rules, self._source, type_id)
        if self._source is None:
            root.hold(cache)
        self.input_rows = root.rows if self._source is None else self._source
        self.search: Search = (BeamSearch if work.options.num_beams > 1 else Independent)(root, work.options)

    @property
    def work(self) -> Generate:
        """Return the work that was asked for."""
        return self.entry.work

    @property
    def connection(self) -> Connection:
        """Return the connection that the work came from."""
        source: Connection = self.entry.source
        return source

    def computed(self, started: float) -> None:
        """Note that a computation for it, which began at `started`, is over."""
        self._started = self._started or started

    def release(self, cache: CacheRows) -> None:
        """Give all rows back."""
        self.search.release(cache)
        if self._source is not None:
            cache.release(self._source)

    def completed(self, wait_seconds: float) -> Completed:
        """Return its answers, which are complete."""
        started = self._started or 0.0
        times = started - self.entry.arrival, time.monotonic() - started, wait_seconds
        return _completed(self.work.id, self.search.answers(), *times)


def fail(entry: Entry, reason: FailureReason, message: str, wait_seconds: float) -> None:
    """FinishedSequence that the work failed."""
    _reply(entry.source, Failure(entry.work.id, reason, message, wait_seconds=wait_seconds))


def refuse(entry: Entry, wait_seconds: float) -> None:
    """FinishedSequence that the work would be late."""
    _reply(entry.source, overloaded(entry.work, wait_seconds, wait_seconds))


def send_completed(running: RunningGeneration, wait_seconds: float) -> None:
    """Send the answers."""
    _reply(running.connection, running.completed(wait_seconds))


def send_generated(group: Sequence[RunningGeneration], choices: Sequence[Choice]) -> None:
    """Send new tokens to those who stream them, in one message to each connection."""
    columns: dict[Connection, list[tuple[int, int, int, float]]] = {}
    for running, choice in zip(group, choices, strict=True):
        if running.work.options.stream and running.search.numbers:
            new = zip(running.search.numbers, choice.tokens, choice.scores, strict=True)
            columns.setdefault(running.connection, []).extend((running.work.id, *each) for each in new)
    for connection, rows in columns.items():
        _reply(connection, _generated(rows))


def _reply(connection: Connection, reply: Reply) -> None:
    connection.reply(lambda: reply)


def _generated(rows: Sequence[tuple[int, int, int, float]]) -> Generated:
    works, sequences, tokens, scores = zip(*rows, strict=True)
    return Generated(
        works=np.array(works, np.int64),
        sequences=np.array(sequences, np.int32),
        tokens=np.array(tokens, np.int32),
        scores=np.array(scores, np.float32),
    )


def _completed(
    work_id: int, answers: Sequence[FinishedSequence], queued: float, computed: float, wait: float
) -> Completed:
    return Completed(
        id=work_id,
        reasons=tuple(answer.reason for answer in answers),
        lengths=np.array([answer.tokens.size for answer in answers], np.int32),
        tokens=np.concatenate([answer.tokens for answer in answers]),
        token_scores=np.concatenate([answer.token_scores for answer in answers]),
        scores=np.array([answer.score for answer in answers], np.float32),
        queue_seconds=queued,
        compute_seconds=computed,
        wait_seconds=wait,
    )
