"""What is written of a run's outputs, so that a run that was killed goes on where it stopped.

The journal is a folder beside the output, which is removed at the end:

    .vectors.parquet.unfinished/
        job.json                  what was asked for; a run with other options does not go on with it
        lock                      held by the process that writes it
        files/NAME/input.json     size and time of the input; one that was changed is begun anew
        files/NAME/000000.part    rows, in the order of the input
        files/NAME/000000.failed  those of them that failed, as lines of JSON; only if there are any
        files/NAME/000000.json    how many rows; written last, and a part without it is not there
        files/NAME/joining.json   all parts are there, and the output is being written
        files/NAME/done.json      the output is there, and its parts need not be

NAME is the output's path below the folder that is written. Runs of earlier versions had it beside `lock` and
`job.json`, whose names it could have; they go on there.

Each file appears only when it is complete (`Storage.replace`), so at whatever point a run is killed, what is in the
journal is true.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from typing import IO, Any

from bertstream.files.sinks.jsonl import json_line
from bertstream.files.sinks.sink import Part
from bertstream.files.storage import Storage

JOB, INPUT, JOINING, DONE = "job.json", "input.json", "joining.json", "done.json"
FILES = "files"
JOURNAL, VERSION = "journal", 2
"""What the job of a run says of its journal: which version it has. The first one said nothing."""


@dataclass(frozen=True, slots=True)
class PartRecord:
    """Describe a part of an output that is written."""

    rows: int
    failed: int


class FileJournal:
    """The journal of one output."""

    def __init__(self, storage: Storage, folder: str, stamp: Mapping[str, Any] | None) -> None:
        self._storage, self._folder, self._stamp = storage, folder, stamp
        known = read_json(storage, self._path(INPUT))
        self.begun_anew = known not in (None, stamp)
        """Whether an earlier run had begun it, with an input that has changed since."""
        self.parts = list(self._found()) if known == stamp else []
        if known != stamp:
            self._begin()

    @property
    def rows(self) -> int:
        """Return how many rows are written."""
        return sum(part.rows for part in self.parts)

    @property
    def failed(self) -> int:
        """Return how many of them failed."""
        return sum(part.failed for part in self.parts)

    @property
    def is_done(self) -> bool:
        """Return whether the output is complete."""
        return self._storage.stamp(self._path(DONE)) is not None

    @property
    def has_joined(self) -> bool:
        """Return whether the output may be this run's own, even if it is not known to be complete."""
        return self.is_done or self._storage.stamp(self._path(JOINING)) is not None

    def add(self, write: Callable[[IO[bytes]], None], rows: int, failures: Sequence[Mapping[str, Any]]) -> None:
        """Add a part with these rows. Once this returns, it outlasts the process."""
        number = len(self.parts)
        with self._storage.replace(self._path(f"{number:06}.part")) as file:
            write(file)
        if failures:
            with self._storage.replace(self._path(f"{number:06}.failed")) as file:
                file.writelines(json_line(failure) for failure in failures)
        record = PartRecord(rows, len(failures))
        write_json(self._storage, self._path(f"{number:06}.json"), {"rows": record.rows, "failed": record.failed})
        self.parts.append(record)

    @property
    def last(self) -> Part | None:
        """Return the last part, or None if there is none."""
        return self._opener(f"{len(self.parts) - 1:06}.part") if self.parts else None

    def join(self, output: str, storage: Storage, join: Callable[[IO[bytes], Sequence[Part]], None]) -> None:
        """Write the output from all parts, and remove those."""
        write_json(self._storage, self._path(JOINING), {"rows": self.rows})
        with storage.replace(output, self._folder) as file:
            join(file, [self._opener(f"{number:06}.part") for number in range(len(self.parts))])
        write_json(self._storage, self._path(DONE), {"rows": self.rows})
        for number in range(len(self.parts)):
            self._storage.remove(self._path(f"{number:06}.part"))

    def begin_again(self) -> None:
        """Forget all that is written."""
        self.parts = []
        self._begin()

    def failures(self) -> Iterator[bytes]:
        """Yield the rows that failed, in order, as lines of JSON."""
        for number, part in enumerate(self.parts):
            if part.failed:
                with closing(self._storage.open(self._path(f"{number:06}.failed"))) as file:
                    yield from file

    def _found(self) -> Iterator[PartRecord]:
        number = 0
        while (record := read_json(self._storage, self._path(f"{number:06}.json"))) is not None:
            yield PartRecord(record["rows"], record["failed"])
            number += 1

    def _begin(self) -> None:
        self._storage.remove(self._folder)
        write_json(self._storage, self._path(INPUT), self._stamp)

    def _opener(self, name: str) -> Part:
        def opened() -> AbstractContextManager[IO[bytes]]:
            return closing(self._storage.open(self._path(name)))

        return opened

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"


class Journal:
    """The journal of a run."""

    def __init__(self, storage: Storage, folder: str) -> None:
        self._storage, self._folder = storage, folder
        self._files = f"{folder}/{FILES}"

    def begun(self) -> dict[str, Any] | None:
        """Return what an unfinished run was asked for, or None if there is none."""
        found = read_json(self._storage, f"{self._folder}/{JOB}")
        if not isinstance(found, dict):
            return None
        if JOURNAL not in found:
            self._files = self._folder
        return {name: value for name, value in found.items() if (name, value) != (JOURNAL, VERSION)}

    def is_empty(self) -> bool:
        """Return whether no row is written yet."""
        names = (path.rpartition("/")[2] for path in self._storage.find(self._folder))
        return not any(name == DONE or name[:-5].isdigit() for name in names)

    def begin(self, job: Mapping[str, Any]) -> None:
        """Begin anew: forget whatever was written."""
        self.forget()
        self._files = f"{self._folder}/{FILES}"
        write_json(self._storage, f"{self._folder}/{JOB}", {JOURNAL: VERSION, **job})

    def file(self, name: str, stamp: Mapping[str, Any] | None) -> FileJournal:
        """Return the journal of one output; what was made of another input is forgotten."""
        return FileJournal(self._storage, f"{self._files}/{name}", stamp)

    def forget(self) -> None:
        """Remove the journal, but for its lock."""
        for path in self._storage.find(self._folder):
            if not self._storage.is_same(path, f"{self._folder}/lock"):
                self._storage.remove(path)

    def end(self) -> None:
        """Remove the journal. What says which run it is goes first: without it, what is left is nobody's."""
        self._storage.remove(f"{self._folder}/{JOB}")
        self._storage.remove(self._folder)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the names of what two runs were asked for differently."""
    return [name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]


def write_json(storage: Storage, path: str, value: Any) -> None:
    """Write a small file of JSON."""
    with storage.replace(path) as file:
        file.write(json_line(value))


def read_json(storage: Storage, path: str) -> Any:
    """Return the value of a small file of JSON, or None if there is no such file."""
    try:
        with closing(storage.open(path)) as file:
            return json.loads(file.read())
    except FileNotFoundError:
        return None
