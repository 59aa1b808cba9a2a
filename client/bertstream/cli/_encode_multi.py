"""The command `bertstream encode-multi`."""

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
    add_prompt,
    add_text_options,
    client,
    command,
    prompt_options,
    text_options,
)

if TYPE_CHECKING:
    from bertstream.cli._multi_vector_writers import Writer

FORMATS = ("summary", "jsonl", "npz")

EXAMPLES = """\
examples:
  bertstream encode-multi "A text" "Another" --model colbert           how many vectors each has, and the first
  bertstream encode-multi "A text" --kind query --json                 {"id": 0, "vectors": [[...], ...]}
  bertstream encode-multi --input corpus.txt --kind document -o v.npz  `vectors` [t, d] of all texts, and `offsets`
  bertstream encode-multi corpus.parquet --column body --keep id --kind document -o vectors.parquet
  bertstream encode-multi corpus/ -o vectors/ --vector-type int8       lists of int8 vectors, and of their scales

It needs a model that gives a vector of each token, such as colbert-ir/colbertv2.0, and says by --kind whether texts are
queries or documents, which such models treat in different ways. `bertstream rerank` scores documents by these vectors.

In a .npz text i, whose number is `ids[i]`, has `vectors[offsets[i]:offsets[i + 1]]`; one that failed is not there.
Of files, rows that fail are null, and listed in vectors.parquet.failed.jsonl (exit code 4); a run that was stopped
goes on where it stopped when it is repeated."""


def add_to(commands: Commands) -> None:
    """Add the command."""
    about = "print or save the vectors of texts' tokens, for late interaction (ColBERT)"
    parser = command(commands, "encode-multi", run, about, EXAMPLES)
    add_texts(parser)
    add_output(parser, FORMATS, batch_size=16)
    add_model(parser)
    group = parser.add_argument_group("the vectors")
    add_prompt(group)
    add_kind_and_wire_type(group)
    add_text_options(parser)
    add_vector_columns(add_files(parser, has_output=True))


def run(arguments: argparse.Namespace) -> int:
    """Encode the texts. Returns 1 if some failed, or 4 if some rows of files did."""
    from_files = wants_files(arguments, arguments.texts, texts_too=True)
    options = {**text_options(arguments), **prompt_options(arguments)}
    if from_files:
        options |= file_options(arguments)
        return run_files(arguments, "encode_multi", sources_of(arguments, arguments.texts), options)
    tally = Tally()
    with texts_of(arguments, arguments.texts) as texts, client(arguments) as connection, _writer(arguments) as writer:
        from bertstream.cli._multi_vector_writers import vectors_of

        for batch in connection.forward_stream(texts, ["token_vectors"], **stream_options(arguments), **options):
            writer.write(batch)
            rows = [vectors for _, vectors in vectors_of(batch)]
            tally.add(len(rows) + len(batch.errors), sum(map(len, rows)), len(batch.errors), rows[0] if rows else None)
            note_failures(batch.errors)
    tell(arguments, tally)
    return 1 if tally.failed else 0


def _writer(arguments: argparse.Namespace) -> Writer:
    from bertstream.cli._multi_vector_writers import writer_for  # which takes the client, that wrong usage does without

    return writer_for(*output_of(arguments, FORMATS))
