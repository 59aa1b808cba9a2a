"""The command `bertstream encode`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from bertstream.cli._encoded import (
    Tally,
    add_kind_and_wire_type,
    add_output,
    file_options,
    note_failures,
    output_of,
    stream_options,
    tell,
)
from bertstream.cli._files import add_files, add_vector_columns, run_files, sources_of, wants_files
from bertstream.cli._input import add_texts, texts_of
from bertstream.cli._options import (
    Commands,
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

if TYPE_CHECKING:
    from bertstream.cli._vector_writers import Writer

FORMATS = ("summary", "jsonl", "npy", "npz")

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
stopped when it is repeated. Rows that fail are listed in vectors.parquet.failed.jsonl (exit code 4)."""


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = command(commands, "encode", run, "print or save the vectors of texts", EXAMPLES)
    add_texts(parser)
    add_output(parser, FORMATS, batch_size=64)
    add_model(parser)
    add_kind_and_wire_type(add_vector_options(parser))
    add_text_options(parser)
    add_window_options(parser)
    add_vector_columns(add_files(parser, has_output=True))


def run(arguments: argparse.Namespace) -> int:
    """Encode the texts. Returns 1 if some failed, or 4 if some rows of files did."""
    from_files = wants_files(arguments, arguments.texts, texts_too=True)
    options = {**text_options(arguments), **vector_options(arguments), **window_options(arguments)}
    if from_files:
        options |= file_options(arguments)
        return run_files(arguments, "encode", sources_of(arguments, arguments.texts), options)
    tally = Tally()
    with texts_of(arguments, arguments.texts) as texts, client(arguments) as connection, _writer(arguments) as writer:
        for batch in connection.encode_stream(texts, **stream_options(arguments), **options):
            writer.write(batch)
            failed = len(batch.errors)
            tally.add(len(batch), len(batch), failed, None if failed == len(batch) else batch.vectors)
            note_failures(batch.errors)
    tell(arguments, tally)
    return 1 if tally.failed else 0


def _writer(arguments: argparse.Namespace) -> Writer:
    from bertstream.cli._vector_writers import writer_for  # which takes the client, that wrong usage does without

    return writer_for(*output_of(arguments, FORMATS))
