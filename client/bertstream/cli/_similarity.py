"""The command `bertstream similarity`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from bertstream.cli._input import Line, add_text, add_texts, chunks, reads_lines, texts_of
from bertstream.cli._options import (
    Commands,
    add_model,
    add_text_options,
    add_vector_options,
    client,
    command,
    text_options,
    vector_options,
)
from bertstream.cli._output import print_json
from bertstream.cli._table import clipped

if TYPE_CHECKING:
    import numpy as np

    from bertstream.client import Client

EXAMPLES = """\
examples:
  bertstream similarity "A cat sleeps." "A kitten lies there." "It will rain."
  bertstream similarity "A cat sleeps." - < texts.txt | sort -rn   the most similar lines first
  bertstream similarity "A cat sleeps." "A kitten lies there." --json"""


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = command(commands, "similarity", run, "print how similar texts are to a first text", EXAMPLES)
    add_text(parser, "first", metavar="A", help="the text to compare with")
    add_texts(parser, metavar="B")
    add_model(parser)
    add_vector_options(parser)
    add_text_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the cosine of each text's vector and the first one's, in the order of the texts."""
    with texts_of(arguments, arguments.texts) as texts, client(arguments) as connection:
        if not arguments.json and not reads_lines(arguments, arguments.texts):
            print("SIMILARITY  TEXT")
        for text, cosine in _cosines(connection, arguments, texts):
            if arguments.json:
                print_json({"text": text, "similarity": round(cosine, 7)})
            else:
                print(f"{cosine:10.4f}  {clipped(text, 100)}")
    return 0


def _cosines(connection: Client, arguments: argparse.Namespace, texts: Iterable[Line]) -> Iterator[tuple[str, float]]:
    options = {"timeout": arguments.timeout, **text_options(arguments), **vector_options(arguments)}
    first = _unit(connection.encode([arguments.first], **options))[0]
    for chunk in chunks(texts):
        yield from zip(chunk, (_unit(connection.encode(chunk, **options)) @ first).tolist(), strict=True)


def _unit(vectors: np.ndarray) -> np.ndarray:
    import numpy as np

    rows = np.asarray(vectors, np.float64)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-30))
