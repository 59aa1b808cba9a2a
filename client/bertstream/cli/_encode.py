"""`bertstream encode`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from bertstream.cli._input import lines, reads_lines
from bertstream.cli._options import (
    Commands,
    UsageError,
    add_model,
    add_text_options,
    add_vector_options,
    client,
    command,
    text_options,
    vector_options,
)
from bertstream.cli._writers import FORMATS, Writer, writer_for

EXAMPLES = """\
examples:
  bertstream encode "A text" "Another"                            a summary of each vector
  bertstream encode "A text" --json                               {"id": 0, "vector": [...]} a line
  bertstream encode - --output vectors.npy < corpus.txt           a text a line, any number of them
  bertstream encode - --output v.npz --keep-going < corpus.txt    rows of NaN for texts that fail (exit code 1)

An output file appears only when all is written."""


def add_to(commands: Commands) -> None:
    """Adds the command."""
    parser = command(commands, "encode", run, "print or save the vectors of texts", EXAMPLES)
    parser.add_argument("texts", nargs="+", metavar="TEXT", help="a text; a single - reads one from each line of stdin")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write to FILE: .npy, .npz or .jsonl")
    parser.add_argument("--format", choices=FORMATS, help="default: by FILE's suffix, else summary (jsonl in a pipe)")
    parser.add_argument("--keep-going", action="store_true", help="go on when a text fails")
    parser.add_argument("--batch-size", type=int, default=64, metavar="TEXTS", help="texts a batch (default: 64)")
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, help="say how far it is, on stderr")
    add_model(parser)
    group = add_vector_options(parser)
    group.add_argument("--wire-type", choices=["float32", "float16", "bfloat16", "int8"], help="how vectors travel")
    add_text_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Encodes the texts; 1 where some failed."""
    texts: Iterator[str] = lines() if reads_lines(arguments.texts) else iter(arguments.texts)
    failed = False
    with client(arguments) as connection, _writer(arguments) as writer:
        batches = connection.encode_stream(
            texts,
            on_error="collect" if arguments.keep_going else "raise",
            batch_size=arguments.batch_size,
            progress=_shows_progress(arguments),
            timeout=arguments.timeout,
            wire_type=arguments.wire_type,
            **text_options(arguments),
            **vector_options(arguments),
        )
        for batch in batches:
            writer.write(batch)
            for failure in batch.errors:
                failed = True
                print(f"bertstream: error: {failure.error}", file=sys.stderr)
    return 1 if failed else 0


def _writer(arguments: argparse.Namespace) -> Writer:
    output: Path | None = arguments.output
    kind = arguments.format or ("jsonl" if arguments.json else None)
    if kind is None and output is not None:
        kind = output.suffix.removeprefix(".")
        if kind not in FORMATS:
            raise UsageError(f"{output.name}: give a name that ends in .npy, .npz or .jsonl, or --format")
    if kind in ("npy", "npz") and output is None:
        raise UsageError(f"--format {kind} needs --output FILE")
    texts = [] if reads_lines(arguments.texts) else arguments.texts
    return writer_for(kind or ("summary" if sys.stdout.isatty() else "jsonl"), output, texts)


def _shows_progress(arguments: argparse.Namespace) -> bool:
    if arguments.progress is not None:
        return bool(arguments.progress)
    return arguments.output is not None and sys.stderr.isatty()
