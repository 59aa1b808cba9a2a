"""What is known of a file that was made: of which input, by which job; and so whether it is to be made again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from bertstream.files.storage import storage_of
from bertstream.ray.data.places import FileWork, Stamp

Decision: TypeAlias = Literal["make", "done", "refuse"]


class OutputExists(FileExistsError):
    """There is a file already where the job would write one; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Record:
    """How a file was made, or is being made."""

    key: str  # of the job: what was asked for
    input: Stamp
    output: Stamp | None = None  # None until the file is complete
    rows: int = 0
    failed: int = 0
    tries: int = 0  # that have ended at these rows, while the file is not complete


def decide(record: Record | None, key: str, before: Stamp, output: Stamp | None, *, overwrite: bool) -> Decision:
    """Return what to do about a file, by its record and by what its input and the file itself are now.

    A file is never written over that this job has not made, unless `overwrite` says so.
    """
    if output is None:
        return "make"
    ours = record is not None and record.key == key
    if ours and record is not None and record.output in (None, output):
        return "done" if record.output is not None and record.input == before else "make"
    return "make" if overwrite else "refuse"


def undone(works: Iterable[FileWork], key: str, *, overwrite: bool) -> tuple[list[FileWork], list[Record]]:
    """Return the files that are still to be made, and the records of those that are done.

    Raises OutputExists where there is another file in the place of one.
    """
    left: list[FileWork] = []
    done: list[Record] = []
    for work in works:
        record, output = read_record(work.record), storage_of(work.pair.output).stamp(work.pair.output)
        match decide(record, key, work.stamp, output, overwrite=overwrite):
            case "make":
                left.append(work)
            case "done" if record is not None:
                done.append(record)
            case _:
                how = "was not made by this job" if record is None else "was made with other options, or changed since"
                raise OutputExists(f"{work.pair.output} {how}: choose another folder, or say overwrite")
    return left, done


def read_record(path: str) -> Record | None:
    """Return a record, or None where there is none that can be read."""
    try:
        with storage_of(path).open(path) as file:
            return Record(**json.load(file))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def write_record(path: str, record: Record) -> None:
    """Write a record, in the place of an old one."""
    with storage_of(path).replace(path) as file:
        file.write(json.dumps(asdict(record)).encode())


def key_of(asked: Mapping[str, Any]) -> str:
    """Return text that is the same for jobs that ask for the same."""
    return json.dumps(asked, sort_keys=True, default=str)
