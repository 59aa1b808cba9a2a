"""What the commands that encode texts share: the options of their outputs, and what is told of them."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bertstream.cli._input import reads_lines
from bertstream.cli._options import UsageError
from bertstream.cli._output import note

TABLES = ("parquet", "arrow")  # of files alone


def add_output(parser: argparse.ArgumentParser, formats: Sequence[str], batch_size: int) -> None:
    """Add the options of the output; `formats` are those of texts."""
    *most, last = [f".{name}" for name in (*formats, *TABLES) if name != "summary"]
    shown = f"write to FILE: {', '.join(most)} or {last}, or to a folder: NAME/"
    parser.add_argument("-o", "--output", metavar="FILE", help=shown)
    shown = "default: by FILE's suffix, else summary (jsonl in a pipe)"
    parser.add_argument("--format", choices=(*formats, *TABLES), help=shown)
    parser.add_argument("--keep-going", action="store_true", help="go on when a text fails")
    shown = f"texts per batch (default: {batch_size})"
    parser.add_argument("--batch-size", type=int, default=batch_size, metavar="TEXTS", help=shown)
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, help="show the progress on stderr")


def add_kind_and_wire_type(group: argparse._ActionsContainer) -> None:
    """Add the options of what texts are for, and of how vectors travel."""
    group.add_argument("--kind", choices=["query", "document"], help="what the texts are for")
    group.add_argument("--wire-type", choices=["float32", "float16", "bfloat16", "int8"], help="how numbers are sent")


def output_of(arguments: argparse.Namespace, formats: Sequence[str]) -> tuple[str, Path | None, Sequence[str]]:
    """Return the format, the file, and the texts where they are arguments. Raises UsageError."""
    output = None if arguments.output is None else Path(arguments.output)
    kind = arguments.format or ("jsonl" if arguments.json else None)
    if kind is None and output is not None:
        kind = output.suffix.removeprefix(".")
        if kind not in formats:
            *most, last = [f".{name}" for name in formats if name != "summary"]
            raise UsageError(f"{output.name}: give a name that ends in {', '.join(most)} or {last}, or --format")
    if output is not None and output.suffix.removeprefix(".") in {*formats, *TABLES} - {kind}:
        raise UsageError(f"{output.name}: its name does not say {kind}: leave --format (or --json) out, or rename it")
    if kind in ("npy", "npz") and output is None:
        raise UsageError(f"--format {kind} needs --output FILE")
    texts = [] if reads_lines(arguments, arguments.texts) else arguments.texts
    return kind or ("summary" if sys.stdout.isatty() else "jsonl"), output, texts


def stream_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options of `add_output` and `add_kind_and_wire_type`, and --timeout, as arguments of streams."""
    return {
        "on_error": "collect" if arguments.keep_going else "raise",
        "progress": shows_progress(arguments),
        **{name: getattr(arguments, name) for name in ("batch_size", "timeout", "wire_type", "kind")},
    }


def file_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return those of them that runs over files take."""
    return {name: getattr(arguments, name) for name in ("batch_size", "wire_type", "kind")}


def shows_progress(arguments: argparse.Namespace) -> bool:
    """Return whether to show the progress: unless it is said, where a file is written and people look on."""
    if arguments.progress is not None:
        return bool(arguments.progress)
    return arguments.output is not None and sys.stderr.isatty()


class Tally:
    """Counts texts and vectors."""

    def __init__(self) -> None:
        self.failed = 0
        self._rows = 0
        self._texts = 0
        self._of = ""
        self._start = time.monotonic()

    def add(self, texts: int, rows: int, failed: int, some: Any) -> None:
        """Count a batch: its texts, their vectors, the texts that failed, and `some` vectors if there are any."""
        self._texts, self._rows, self.failed = self._texts + texts, self._rows + rows, self.failed + failed
        if some is not None:
            self._of = f" of {some.shape[-1]} {some.dtype}"

    def vectors(self) -> str:
        """Return words such as `12,345 vectors of 384 float32`."""
        return f"{self._rows:,} vector{'' if self._rows == 1 else 's'}{self._of}"

    def course(self) -> str:
        """Return words such as `3.2 s, 3,858 texts/s, 2 texts failed`."""
        seconds = time.monotonic() - self._start
        failed = f", {self.failed:,} text{'' if self.failed == 1 else 's'} failed" if self.failed else ""
        return f"{seconds:,.1f} s, {self._texts / max(seconds, 1e-9):,.0f} texts/s{failed}"


def tell(arguments: argparse.Namespace, tally: Tally) -> None:
    """Say what was written into a file."""
    if arguments.output is not None:
        # With --progress its last line has told the time and the failures already.
        told = "" if shows_progress(arguments) else f", {tally.course()}"
        note(f"{arguments.output}: {tally.vectors()}{told}")


def note_failures(errors: Iterable[Any]) -> None:
    """Say which texts failed, and why."""
    for failure in errors:
        note(f"bertstream: error: {failure.error}")
