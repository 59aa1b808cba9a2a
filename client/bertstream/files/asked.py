"""What a run over files is asked for, and what it has done."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bertstream.files.formats import output_format
from bertstream.files.operations import Operation
from bertstream.files.plan import Plan
from bertstream.files.rows import Inputs, Keep
from bertstream.files.storage import storage_of
from bertstream.files.vectors import VectorFormat


@dataclass(frozen=True, slots=True)
class Asked:
    """Say what is to be done with the rows."""

    operation: Operation
    inputs: Inputs
    options: Mapping[str, Any] = field(default_factory=dict)
    """The keyword arguments of the SDK's method."""
    keep: Keep = ()
    stored: VectorFormat = field(default_factory=VectorFormat)
    model: str = ""
    """Which model answers, by its name and revision, so that no output is of two models."""
    vector_width: int = 0
    """How many numbers its vectors have, for outputs of which no row has one; 0 if that is not known."""

    def identity(self, plan: Plan) -> dict[str, Any]:
        """Return what must be the same for a later run to go on with this one, as values of JSON."""
        return {
            "task": self.operation.name,
            "model": self.model,
            "column": list(self.inputs.columns),
            "texts": [self.inputs.first, self.inputs.second],
            "keep": self.keep if isinstance(self.keep, str) else list(self.keep),
            "vector_type": self.stored.dtype,
            "vectors": self.stored.layout,
            "format": plan.format,
            **{name: _plain(value) for name, value in sorted(self.options.items()) if value is not None},
        }

    def check(self, plan: Plan) -> None:
        """Raise ValueError for what does not go together."""
        if not plan.in_folder and output_format(plan.output) not in (None, plan.format):
            raise ValueError(f"{plan.output}: its name does not say {plan.format}: leave `format` out, or rename it")
        if plan.format == "npy" and self.operation.name == "encode_multi":
            raise ValueError(".npy holds one vector a row, not one for each token; write .parquet, .arrow or .jsonl")
        if plan.format == "npy" and (self.operation.name != "encode" or self.keep or self.stored.dtype == "int8"):
            raise ValueError(".npy holds vectors of floats and nothing else; write .parquet, .arrow or .jsonl")
        if plan.format in ("npy", "jsonl") and self.stored.layout == "binary":
            raise ValueError("vectors as binary are for .parquet and .arrow")


@dataclass(frozen=True, slots=True)
class FileReport:
    """What a run over files has done."""

    outputs: tuple[str, ...]
    """The files that are written, in the order of those that were read."""
    rows: int
    """Rows of all of them."""
    failed: int
    """Rows that failed."""
    failed_file: str | None
    """The file that tells which rows failed and why; None if none did."""
    resumed: int
    """Rows that an earlier run, which was stopped, had done already."""
    seconds: float
    """How long this run took."""
    skipped: tuple[str, ...] = ()
    """Files in the folders that were read that are of no format that can be."""


def refuse_to_overwrite(plan: Plan) -> None:
    """Raise FileExistsError if an output is there already."""
    for path in (*(pair.output for pair in plan.pairs), plan.failed_file):
        if storage_of(path).stamp(path) is not None:
            raise FileExistsError(f"{path} is there already: choose another name, or ask to overwrite it (--overwrite)")


def _plain(value: Any) -> Any:
    """Return a value of JSON that is the same for the same option, given as a list, a set or an array."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Set):
        value = sorted(value, key=str)
    if isinstance(value, list | tuple | range):
        return [_plain(each) for each in value]
    return value if isinstance(value, str | int | float | bool) else str(value)
