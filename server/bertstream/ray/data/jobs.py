"""The job of a corpus: what is left to do, the actors that do it, and what becomes of its files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from bertstream.ray.data.carried import FileOutcome
from bertstream.ray.data.records import Record


class JobFailed(Exception):
    """The job as a whole cannot go on, such as where the model does not load; the message is one line."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is."""

    files: int  # that are done, those of earlier runs included
    of_files: int
    rows: int  # of this run
    failed: int
    seconds: float

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        failed = f", {self.failed:,} failed" if self.failed else ""
        return f"{self.files:,} of {self.of_files:,} files, {self.rows:,} rows{failed}, {self.rate:,.0f} rows/s"


OnProgress: TypeAlias = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class FilesReport:
    """What has become of a corpus."""

    files: int
    """How many files are made, those of earlier runs included."""
    skipped: int
    """How many of them earlier runs had made."""
    rows: int
    """Rows of all files."""
    failed_rows: int
    """Rows without an answer."""
    failed_file: str | None = None
    """The file that tells which rows these are and why, as lines of JSON; None where there are none."""
    failed_files: dict[str, str] = field(default_factory=dict)
    """Why files were not made, by the paths of their inputs."""
    seconds: float = 0.0
    """How long this run took."""
    left_out: tuple[str, ...] = ()
    """Files in the folders that were read, of formats that are not known."""

    @property
    def ok(self) -> bool:
        """Whether every row of every file has an answer."""
        return not self.failed_rows and not self.failed_files


def gathered(
    outcomes: Iterable[FileOutcome],
    done: Sequence[Record],
    files: int,
    on_progress: OnProgress | None,
    clock: Callable[[], float] = time.monotonic,
) -> FilesReport:
    """Return what has become of so many files, of which some were done before, from the outcomes as they come.

    Raises JobFailed at the first that says that no file can be made.
    """
    began = clock()
    files_made = rows = failed = 0  # of this run
    failed_files: dict[str, str] = {}
    for outcome in outcomes:
        if outcome.fatal:
            raise JobFailed(outcome.error)
        if outcome.record is None:
            failed_files[outcome.input] = outcome.error
        else:
            files_made += 1
            rows, failed = rows + outcome.record.rows, failed + outcome.record.failed
        if on_progress is not None:
            on_progress(Progress(len(done) + files_made, files, rows, failed, clock() - began))
    return FilesReport(
        files=len(done) + files_made,
        skipped=len(done),
        rows=rows + sum(each.rows for each in done),
        failed_rows=failed + sum(each.failed for each in done),
        failed_files=failed_files,
        seconds=clock() - began,
    )
