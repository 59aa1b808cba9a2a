"""A task over one file, which becomes another file of as many rows, in the same order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from bertstream.client import BertstreamError
from bertstream.files.job import opened
from bertstream.files.journal import FileJournal
from bertstream.files.rows import Chunk, Keep
from bertstream.files.sinks.sink import Block
from bertstream.files.sinks.tables import ParquetSink
from bertstream.files.storage import Storage, storage_of
from bertstream.ray.data.carried import FileOutcome
from bertstream.ray.data.places import FileWork
from bertstream.ray.data.records import Record, decide, read_record, write_record
from bertstream.ray.data.tasks import Answered, Asked, Engine, EngineFailed, RowTask

PART_ROWS = 4096
MOST_TRIES = 5
LOCK_SECONDS = 60.0  # that an actor of a job that was killed may take to end
PARTS_UNDER_WAY = 3  # one is computed, one is tokenized, and one is written


@dataclass(frozen=True, slots=True)
class FileTask:
    """What is done with each file of a job."""

    task: RowTask
    keep: Keep
    key: str  # of the job

    def outcome(self, engine: Engine, work: FileWork) -> FileOutcome:
        """Make a file, and report how that went. What concerns this file alone keeps no other from being made."""
        try:
            return FileOutcome(work.pair.source, self.make(engine, work))
        except (BertstreamError, EngineFailed) as error:
            return FileOutcome(work.pair.source, error=str(error), fatal=True)
        except (ValueError, OSError, EOFError) as error:
            return FileOutcome(work.pair.source, error=str(error))

    def make(self, engine: Engine, work: FileWork) -> Record:
        """Make a file, from where an earlier try stopped, and return its record."""
        storage = storage_of(work.pair.output)
        with _locked(storage, work.unfinished):
            record, there = read_record(work.record), storage.stamp(work.pair.output)
            if record is not None and decide(record, self.key, work.stamp, there, overwrite=False) == "done":
                return record  # by an actor that was believed to be lost
            journal = FileJournal(storage, work.parts, {"key": self.key, **work.stamp})
            # That it is begun is recorded first: so a later run knows that the file is its own to write.
            self._begin(work, record, journal.rows)
            if not journal.is_done:
                self._fill(engine, work, journal)
                journal.join(work.pair.output, storage, ParquetSink().join)
            _list_failures(work, journal)
            made = Record(self.key, work.stamp, storage.stamp(work.pair.output), journal.rows, journal.failed)
            write_record(work.record, made)
            storage.remove(work.unfinished)
            return made

    def _begin(self, work: FileWork, record: Record | None, rows: int) -> None:
        """Record another try. Raises ValueError after too many that came no further, since Ray tries for ever."""
        begun = Record(self.key, work.stamp, rows=rows)
        tries = record.tries if record is not None and replace(record, tries=0) == begun else 0
        if tries == MOST_TRIES:
            write_record(work.record, begun)
            raise ValueError(f"{work.pair.source}: given up at row {rows}, where {tries} actors have died")
        write_record(work.record, replace(begun, tries=tries + 1))

    def _fill(self, engine: Engine, work: FileWork, journal: FileJournal) -> None:
        """Write the parts that the journal lacks."""
        for chunks, asked in self._asked(engine, work, journal.rows):
            answered = self.task.finish(asked)
            block = Block(self.task.columns(engine, answered.answers), [chunk.kept for chunk in chunks])
            journal.add(partial(ParquetSink().write_part, block=block), block.rows, _listed(answered, chunks[0].first))
        if not journal.parts:  # so that there is an output without rows
            empty = Block(self.task.columns(engine, []))
            journal.add(partial(ParquetSink().write_part, block=empty), 0, [])

    def _asked(self, engine: Engine, work: FileWork, start: int) -> Iterator[tuple[list[Chunk], Asked]]:
        """Yield the rows from `start` on, a part at a time, while later ones are asked for already."""
        under_way = deque[tuple[list[Chunk], Asked]]()
        wanted = self.task.inputs.wanted(self.keep)
        for chunks in _parts(opened(work.pair).chunks(wanted, start)):
            rows = [row for chunk in chunks for row in chunk.values]
            under_way.append((chunks, self.task.begin(engine, rows)))
            if len(under_way) == PARTS_UNDER_WAY:
                yield under_way.popleft()
        yield from under_way


def _parts(chunks: Iterable[Chunk]) -> Iterator[list[Chunk]]:
    """Yield chunks in groups of about PART_ROWS rows."""
    some: list[Chunk] = []
    for chunk in chunks:
        some.append(chunk)
        if sum(len(each.values) for each in some) >= PART_ROWS:
            yield some
            some = []
    if some:
        yield some


def _listed(answered: Answered, first: int) -> Sequence[dict[str, Any]]:
    """Return the failures as they are listed, by the rows of the file, which begin with `first`."""
    return [
        {"row": first + row, "reason": failure.reason, "message": failure.message}
        for row, failure in answered.failures.items()
    ]


def _list_failures(work: FileWork, journal: FileJournal) -> None:
    storage = storage_of(work.failed)
    if not journal.failed:
        storage.remove(work.failed)
        return
    with storage.replace(work.failed) as file:
        file.writelines(journal.failures())


@contextmanager
def _locked(storage: Storage, folder: str) -> Iterator[None]:
    """Hold the lock of a folder. Raises OSError where another process does not give it up in time."""
    until = time.monotonic() + LOCK_SECONDS
    while True:
        lock = storage.lock(folder)
        try:
            lock.__enter__()
            break
        except BlockingIOError:
            if time.monotonic() > until:
                raise OSError(f"{folder}: another process is working on it") from None
            time.sleep(0.2)
    try:
        yield
    finally:
        lock.__exit__(None, None, None)
