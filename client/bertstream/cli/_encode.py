"""The command `bertstream encode`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bertstream.cli._files import add_files, add_vector_columns, run_files, sources_of, wants_files
from bertstream.cli._input import add_texts, reads_lines, texts_of
from bertstream.cli._options import (
    Commands,
    UsageError,
    add_model,
    add_text_options,
    add_vector_options,
    add_window_options,
    client,
    command,
    text_options,
    vector_options,
    window_options,
)
from bertstream.cli._output import note

if TYPE_CHECKING:
    from bertstream.cli._writers import Writer
    from bertstream.client import EncodedBatch

FORMATS = ("summary", "jsonl", "npy", "npz")
ALL_FORMATS = (*FORMATS, "parquet", "arrow")

EXAMPLES = """\
examples:
  bertstream encode "A text" "Another"                            a summary of each vector
  bertstream encode "A text" --json                               {"id": 0, "vector": [...]} on each line
  bertstream encode --input corpus.txt -o vectors.npy             any number of texts, one per line; - for stdin
  bertstream encode --input corpus.txt -o v.npz --skip-empty      `ids` are the numbers of the lines, from 0 on
  bertstream encode --input books.txt -o v.npy --long-texts windows   all of long texts, in windows
  bertstream encode --input corpus.txt -o v.npz --keep-going      rows of NaN for texts that fail (exit code 1)
  bertstream encode corpus.parquet --column body --keep id -o vectors.parquet
  bertstream encode corpus/ -o vectors/                           the same folders and names, in Parquet
  bertstream encode corpus/ --on ray -o vectors/ --num-gpus 1     on all GPUs of a Ray cluster, without a server

An output file appears only when it is complete. A run over files that was stopped, even killed, goes on where it
stopped when it is repeated. Rows that fail are listed in vectors.failed.jsonl (exit code 4)."""


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = command(commands, "encode", run, "print or save the vectors of texts", EXAMPLES)
    add_texts(parser)
    output_help = "write to FILE: .npy, .npz, .jsonl, .parquet or .arrow, or to a folder: NAME/"
    parser.add_argument("-o", "--output", metavar="FILE", help=output_help)
    parser.add_argument(
        "--format", choices=ALL_FORMATS, help="default: by FILE's suffix, else summary (jsonl in a pipe)"
    )
    parser.add_argument("--keep-going", action="store_true", help="go on when a text fails")
    parser.add_argument("--batch-size", type=int, default=64, metavar="TEXTS", help="texts per batch (default: 64)")
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, help="show the progress on stderr")
    add_model(parser)
    group = add_vector_options(parser)
    group.add_argument("--kind", choices=["query", "document"], help="what the texts are for")
    group.add_argument("--wire-type", choices=["float32", "float16", "bfloat16", "int8"], help="how numbers are sent")
    add_text_options(parser)
    add_window_options(parser)
    add_vector_columns(add_files(parser, has_output=True))


def run(arguments: argparse.Namespace) -> int:
    """Encode the texts. Returns 1 if some failed, or 4 if some rows of files did."""
    if wants_files(arguments, arguments.texts, texts_too=True):
        options = {"wire_type": arguments.wire_type, "batch_size": arguments.batch_size}
        options = {**options, **text_options(arguments), **vector_options(arguments), **window_options(arguments)}
        options["kind"] = arguments.kind
        return run_files(arguments, "encode", sources_of(arguments, arguments.texts), options)
    tally, shows_progress = _Tally(), _shows_progress(arguments)
    with texts_of(arguments, arguments.texts) as texts, client(arguments) as connection, _writer(arguments) as writer:
        batches = connection.encode_stream(
            texts,
            on_error="collect" if arguments.keep_going else "raise",
            batch_size=arguments.batch_size,
            progress=shows_progress,
            timeout=arguments.timeout,
            wire_type=arguments.wire_type,
            **text_options(arguments),
            **vector_options(arguments),
            **window_options(arguments),
            kind=arguments.kind,
        )
        for batch in batches:
            writer.write(batch)
            tally.add(batch)
            for failure in batch.errors:
                note(f"bertstream: error: {failure.error}")
    if arguments.output is not None:
        # With --progress its last line has told the time and the failures already.
        note(f"{arguments.output}: {tally.rows()}" + ("" if shows_progress else f", {tally.course()}"))
    return 1 if tally.failed else 0


class _Tally:
    """Counts the texts that were encoded and those that failed."""

    def __init__(self) -> None:
        self._texts = self.failed = 0
        self._row = ""
        self._start = time.monotonic()

    def add(self, batch: EncodedBatch) -> None:
        self._texts += len(batch)
        self.failed += len(batch.errors)
        if len(batch.errors) < len(batch):
            self._row = f" of {batch.vectors.shape[-1]} {batch.vectors.dtype}"

    def rows(self) -> str:
        """Return words such as `12,345 vectors of 384 float32`."""
        return f"{self._texts:,} vector{'' if self._texts == 1 else 's'}{self._row}"

    def course(self) -> str:
        """Return words such as `3.2 s, 3,858 texts/s, 2 texts failed`."""
        seconds = time.monotonic() - self._start
        failed = f", {self.failed:,} text{'' if self.failed == 1 else 's'} failed" if self.failed else ""
        return f"{seconds:,.1f} s, {self._texts / max(seconds, 1e-9):,.0f} texts/s{failed}"


def _writer(arguments: argparse.Namespace) -> Writer:
    from bertstream.cli._writers import writer_for

    output = None if arguments.output is None else Path(arguments.output)
    kind = arguments.format or ("jsonl" if arguments.json else None)
    if kind is None and output is not None:
        kind = output.suffix.removeprefix(".")
        if kind not in FORMATS:
            raise UsageError(f"{output.name}: give a name that ends in .npy, .npz or .jsonl, or --format")
    if kind in ("npy", "npz") and output is None:
        raise UsageError(f"--format {kind} needs --output FILE")
    texts = [] if reads_lines(arguments, arguments.texts) else arguments.texts
    return writer_for(kind or ("summary" if sys.stdout.isatty() else "jsonl"), output, texts)


def _shows_progress(arguments: argparse.Namespace) -> bool:
    if arguments.progress is not None:
        return bool(arguments.progress)
    return arguments.output is not None and sys.stderr.isatty()
