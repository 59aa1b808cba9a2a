"""Work and its outcomes as rows of a dataset, which is how Ray carries them between the driver and its actors."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from bertstream.files.formats import Encoded
from bertstream.files.plan import FilePair
from bertstream.ray.data.places import FileWork
from bertstream.ray.data.records import Record

WORK, OUTCOME = "work", "outcome"  # the only columns


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """What has become of one file."""

    input: str
    record: Record | None = None  # None where the file was not made
    error: str = ""  # why
    fatal: bool = False  # whether no other file can be made either


def work_row(work: FileWork) -> dict[str, str]:
    """Return a row for a file that is to be made."""
    return {WORK: json.dumps(asdict(work))}


def works_of(block: pa.Table) -> list[FileWork]:
    """Return the files that the rows of a block are for."""
    return [_work(json.loads(row)) for row in block.column(WORK).to_pylist()]


def _work(row: dict[str, Any]) -> FileWork:
    pair = row.pop("pair")
    encoded = Encoded(**pair.pop("encoded"))
    return FileWork(FilePair(encoded=encoded, **pair), **row)


def outcomes_table(outcomes: Iterable[FileOutcome]) -> pa.Table:
    """Return outcomes as rows."""
    return pa.table({OUTCOME: pa.array([json.dumps(asdict(each)) for each in outcomes], pa.string())})


def outcome_of(row: dict[str, Any]) -> FileOutcome:
    """Return the outcome in a row."""
    found = json.loads(row[OUTCOME])
    record = found.pop("record")
    return FileOutcome(**found, record=None if record is None else Record(**record))
