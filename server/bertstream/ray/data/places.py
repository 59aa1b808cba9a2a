"""Which file becomes which, and what is kept beside the outputs of how they were made."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from bertstream.files.plan import FilePair, Plan, planned
from bertstream.files.storage import storage_of

OWN_FOLDER = "_bertstream"  # in the output's: readers of tables in folders leave out what begins with an underscore

Place: TypeAlias = "str | Path"
Stamp: TypeAlias = "dict[str, Any]"  # what tells whether a file was changed, such as its size


@dataclass(frozen=True, slots=True)
class FileWork:
    """A file to read as it was found, the one to write, and what is kept of it."""

    pair: FilePair
    stamp: Stamp
    kept: str  # the path of all that is kept, which goes on with an ending

    @property
    def record(self) -> str:
        """The record of how the output was made."""
        return f"{self.kept}.json"

    @property
    def failed(self) -> str:
        """The list of its rows that failed; there is none where none did."""
        return f"{self.kept}.failed.jsonl"

    @property
    def unfinished(self) -> str:
        """The folder that is there, and locked, while the output is being made."""
        return f"{self.kept}.unfinished"

    @property
    def parts(self) -> str:
        """The folder in it of what is written already."""
        return f"{self.unfinished}/parts"


def plan_of(source: Place | Sequence[Place], output: Place) -> Plan:
    """Return the plan for files, folders or patterns, whose outputs have the same names in the folder `output`.

    Raises ValueError and FileNotFoundError.
    """
    places = [source] if isinstance(source, str | Path) else list(source)
    return planned([str(place) for place in places], f"{str(output).rstrip('/')}/", "parquet")


def works_of_plan(plan: Plan) -> list[FileWork]:
    """Return the work of each file, by its state now. Paths are whole, so that actors elsewhere mean the same ones."""
    return [_work(pair, plan.output) for pair in plan.pairs]


def whole(place: str) -> str:
    """Return a path that does not depend on where a process runs; one elsewhere, such as s3://, stays as it is."""
    return place if "://" in place else posixpath.abspath(place)


def _work(pair: FilePair, output: str) -> FileWork:
    stamp = storage_of(pair.source).stamp(pair.source)
    if stamp is None:
        raise FileNotFoundError(f"{pair.source}: no such file")
    found = FilePair(whole(pair.source), pair.encoded, whole(pair.output), pair.name)
    return FileWork(found, stamp, f"{whole(output.rstrip('/'))}/{OWN_FOLDER}/{pair.name}")
