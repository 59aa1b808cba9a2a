"""A run over files without its calls: rows become items, answers become parts, and parts become outputs.

    for batch in stream(chain.from_iterable(job.item_lists())):   # in order, from whoever answers
        job.take(answers_of(batch))
    report = job.finish()

Memory is bounded by what the stream pulls ahead of its answers, and by one part.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from bertstream.files.asked import Asked, FileReport, refuse_to_overwrite
from bertstream.files.journal import FileJournal, Journal, differences
from bertstream.files.operations import SCORE
from bertstream.files.parts import OpenPart
from bertstream.files.plan import STDIN, FilePair, Plan
from bertstream.files.progress import FileProgress, FileProgressOption, Shown, seconds_left
from bertstream.files.rows import Chunk, Failure, Row, items_of
from bertstream.files.sinks.jsonl import JsonSink
from bertstream.files.sinks.npy import ArraySink
from bertstream.files.sinks.sink import Sink
from bertstream.files.sinks.tables import ArrowSink, ParquetSink
from bertstream.files.sources.source import Source
from bertstream.files.storage import storage_of

SINKS: Mapping[str, Callable[[], Sink]] = {
    "parquet": ParquetSink,
    "arrow": ArrowSink,
    "jsonl": JsonSink,
    "npy": ArraySink,
}
ODD_LIST = "the row has a list, where the first row of the file has one text; .jsonl has room for both"
ODD_TEXT = "the row has one text, where the first row of the file has a list; .jsonl has room for both"


@dataclass(slots=True)
class _File:
    """A pair of files that is being worked on."""

    pair: FilePair
    journal: FileJournal
    sink: Sink
    part: OpenPart
    size: int  # in bytes
    read: float = 0.0  # how much of it has been read, from 0 to 1
    answered: float = 0.0  # and how much of it has been answered
    several: bool | None = None  # whether its rows have lists of answers; None where they may have or not


class Job:
    """The state of a run.

    Raises ValueError for options that do not go together, and FileExistsError for outputs that are there already.
    """

    def __init__(
        self,
        plan: Plan,
        asked: Asked,
        *,
        overwrite: bool = False,
        progress: FileProgressOption = False,
        time_of: Callable[[], float] = time.monotonic,
    ) -> None:
        asked.check(plan)
        self._plan, self._asked, self._overwrite = plan, asked, overwrite
        self._wanted = asked.inputs.wanted(asked.keep)
        self._sink()  # says what is not installed
        self._storage = storage_of(plan.output)
        self._journal = Journal(self._storage, plan.work_folder)
        self._time_of, self._shown = time_of, Shown(progress, time_of=time_of)
        self._start = time_of()
        self._bytes = [_size(pair) for pair in plan.pairs]
        self._bytes_done = 0  # of files that are complete
        self._share_begun: float | None = None  # the share that earlier runs have done
        self._files: deque[_File] = deque()  # begun, and not yet complete
        self._rows: deque[Row | _File] = deque()  # in order; a file stands for its end
        self._sent: dict[int, Row] = {}  # by the number of the item
        self._next_item = 0
        self._written = self._failed = self._resumed = 0
        self._with_failures: list[FileJournal] = []  # of files that are done
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Take up the run that was stopped, if there is one, or begin anew."""
        try:
            self._stack.enter_context(self._storage.lock(self._plan.work_folder))
        except BlockingIOError:
            raise FileExistsError(f"{self._plan.output}: another process is writing it") from None
        try:
            self._open()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Keep what is answered, for a later run to go on with."""
        try:
            if kind is not None and self._files:
                with suppress(Exception):  # the first error tells more than one of what comes of it
                    self._keep(self._files[0])
            if error is not None and not self._plan.reads_stdin and not self._journal.is_empty():
                error.add_note(f"{self._plan.output} is not finished: repeat the same command or call, and it goes on")
        finally:
            self._shown.end()
            self._leave(kind is not None)

    def _leave(self, failed: bool = True) -> None:
        """End the lock. A run that failed leaves nothing where nothing is written that a later one could go on with."""
        if failed and self._journal.is_empty():
            self._journal.end()
        self._stack.close()

    def item_lists(self) -> Generator[list[tuple[int, Any]], None, None]:
        """Yield lists of the items of all rows that are not done yet, each with its number.

        Each list takes some reading. It holds an input open until it is closed.
        """
        for pair, size in zip(self._plan.pairs, self._bytes, strict=True):
            journal = self._journal.file(pair.name, _stamp(pair))
            if journal.is_done and self._storage.stamp(pair.output) is None:
                self._shown.note(f"bertstream: note: {pair.output} was removed since, and is done again")
                journal.begin_again()
            self._count_earlier(pair, journal)
            if journal.is_done:
                self._bytes_done += size
                self._note_failures(journal)
            else:
                yield from self._items_of(_File(pair, journal, self._sink(), self._new_part(), size))

    def take(self, answered: Iterable[tuple[int, Any]]) -> None:
        """Take answers by their items' numbers, or a Failure, in the order of the items."""
        for number, outcome in answered:
            self._sent.pop(number).take(outcome)
        self._advance()
        self._shown.update(self.progress)

    def finish(self) -> FileReport:
        """Complete the last output once all items are answered, and remove the journal."""
        self._advance()
        assert not self._rows, "rows without an answer"
        failed_file = self._write_failures()
        self._journal.end()
        self._shown.update(lambda: self.progress(finished=True), finished=True)
        outputs = tuple(pair.output for pair in self._plan.pairs)
        seconds = self._time_of() - self._start
        return FileReport(outputs, self._written, self._failed, failed_file, self._resumed, seconds, self._plan.skipped)

    def progress(self, finished: bool = False) -> FileProgress:
        """Return how far the run has come."""
        share, seconds = 1.0 if finished else self._share(), self._time_of() - self._start
        waiting = sum(file.part.rows for file in self._files)
        failed = self._failed + sum(file.part.failed for file in self._files)
        left = seconds_left(seconds, self._share_begun or 0.0, share)
        return FileProgress(self._written + waiting, failed, self._resumed, share, seconds, left, finished)

    def _open(self) -> None:
        """Go on with an unfinished run of the same kind, or begin one."""
        job = self._asked.identity(self._plan)
        begun = None if self._plan.reads_stdin else self._journal.begun()
        if begun is not None:
            changed = differences(begun, job)
            if not changed:
                self._shown.note(f"bertstream: note: goes on with {self._plan.output}, which an earlier run has begun")
                return
            if not self._overwrite and not self._journal.is_empty():
                told = f"an unfinished run of it had another {', '.join(changed)}"
                advice = "repeat that one to finish it, or ask to overwrite it (--overwrite)"
                raise FileExistsError(f"{self._plan.output}: {told}: {advice}")
        if not self._overwrite:
            refuse_to_overwrite(self._plan)
        self._journal.begin(job)

    def _count_earlier(self, pair: FilePair, journal: FileJournal) -> None:
        if journal.begun_anew:
            self._shown.note(f"bertstream: note: {pair.source} has changed since, and is done again")
        self._written += journal.rows
        self._failed += journal.failed
        self._resumed += journal.rows

    def _items_of(self, file: _File) -> Iterator[list[tuple[int, Any]]]:
        """Yield the items of one file's rows."""
        self._files.append(file)
        if file.journal.last is not None:
            file.sink.go_on(file.journal.last)
            file.several = file.sink.has_lists(SCORE)
        source = opened(file.pair)
        for chunk in source.chunks(self._wanted, file.journal.rows):
            if not chunk.values:
                file.part.no_rows = chunk.kept
                continue
            yield self._items_of_chunk(chunk, file, source.share)
            self._advance()
        self._rows.append(file)

    def _items_of_chunk(self, chunk: Chunk, file: _File, read: float) -> list[tuple[int, Any]]:
        """Return the items of a chunk, with which so much of its file has been `read`."""
        count = len(chunk.values)
        if not file.read:  # what an earlier run has done has been read at once with the first chunk
            file.answered = file.read = read * chunk.first / (chunk.first + count)
            self._share_begun = self._share() if self._share_begun is None else self._share_begun
        before, file.read = file.read, max(file.read, read)
        items: list[tuple[int, Any]] = []
        for index, values in enumerate(chunk.values):
            row = Row(chunk, index, before + (file.read - before) * (index + 1) / count)
            self._rows.append(row)
            found = values if isinstance(values, Failure) else self._items_of_row(row, values, file)
            if isinstance(found, Failure):
                row.failure = found
                continue
            for item in found:
                self._sent[self._next_item] = row
                items.append((self._next_item, item))
                self._next_item += 1
        return items

    def _items_of_row(self, row: Row, values: Sequence[Any], file: _File) -> list[Any] | Failure:
        texts = self._asked.inputs.texts(values)
        found = items_of(self._asked.operation, texts)
        if isinstance(found, Failure) or not self._asked.operation.several:
            row.left = 0 if isinstance(found, Failure) else len(found)
            return found
        row.several = isinstance(texts[-1], list)
        if self._plan.format != "jsonl":
            file.several = row.several if file.several is None else file.several
            if row.several != file.several:
                return Failure("INVALID_VALUE", ODD_LIST if row.several else ODD_TEXT)
        row.left = len(found)
        return found

    def _advance(self) -> None:
        """Add rows that are answered to their parts, and complete files of which all are."""
        while self._rows:
            row = self._rows[0]
            if isinstance(row, _File):
                self._rows.popleft()
                self._complete(row)
                continue
            if row.left:
                return
            self._rows.popleft()
            file = self._files[0]
            file.part.add(row)
            file.answered = row.share
            if file.part.is_full:
                self._flush(file)

    def _flush(self, file: _File) -> None:
        """Write what the file's part has: nothing too where nothing was written, so that the output has columns."""
        part, file.part = file.part, self._new_part()
        if not part.rows and file.journal.parts:
            return
        asked = self._asked
        block = part.block(asked.operation, asked.options, asked.stored, asked.vector_width)
        source = file.pair.source
        failures = [{"file": source, **failure} if self._plan.in_folder else failure for failure in part.failures()]
        file.journal.add(lambda opened: file.sink.write_part(opened, block), part.rows, failures)
        self._written += part.rows
        self._failed += len(failures)

    def _complete(self, file: _File) -> None:
        """Write the output of a file of which all rows are answered."""
        self._flush(file)
        file.journal.join(file.pair.output, self._storage, file.sink.join)
        self._files.popleft()
        self._bytes_done += file.size
        self._note_failures(file.journal)

    def _note_failures(self, journal: FileJournal) -> None:
        if journal.failed:
            self._with_failures.append(journal)

    def _keep(self, file: _File) -> None:
        if file.part.rows:
            self._flush(file)

    def _write_failures(self) -> str | None:
        path = self._plan.failed_file
        if not self._failed:
            self._storage.remove(path)
            return None
        with self._storage.replace(path, self._plan.work_folder) as file:
            for journal in self._with_failures:
                file.writelines(journal.failures())
        return path

    def _sink(self) -> Sink:
        return SINKS[self._plan.format]()

    def _new_part(self) -> OpenPart:
        return OpenPart(self._time_of)

    def _share(self) -> float:
        """Return how much of all files has been answered."""
        total = sum(self._bytes)
        if not total:
            return 0.0
        share = self._files[0].answered * self._files[0].size if self._files else 0.0
        return min(1.0, (self._bytes_done + share) / total)


def opened(pair: FilePair) -> Source:
    """Return a pair's input, opened."""
    if pair.source == STDIN:
        if sys.stdin is None:
            raise OSError("standard input is closed")
        return Source("standard input", sys.stdin.buffer, pair.encoded)
    storage = storage_of(pair.source)
    return Source(pair.source, storage.open(pair.source), pair.encoded, storage.size(pair.source))


def _stamp(pair: FilePair) -> dict[str, Any] | None:
    return None if pair.source == STDIN else storage_of(pair.source).stamp(pair.source)


def _size(pair: FilePair) -> int:
    return 0 if pair.source == STDIN else storage_of(pair.source).size(pair.source)
