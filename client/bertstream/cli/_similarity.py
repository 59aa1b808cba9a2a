"""`bertstream similarity`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator

import numpy as np

from bertstream.cli._input import argument_texts, reads_lines
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
from bertstream.cli._table import clipped
from bertstream.client import Client

EXAMPLES = """\
examples:
  bertstream similarity "A cat sleeps." "A kitten lies there." "It will rain."
  bertstream similarity "A cat sleeps." - < texts.txt | sort -rn   the most similar lines first
  bertstream similarity "A cat sleeps." "A kitten lies there." --json"""


def add_to(commands: Commands) -> None:
    """Adds the command."""
    parser = command(commands, "similarity", run, "print how similar texts are to a first one", EXAMPLES)
    parser.add_argument("first", metavar="A", help="the text to compare with")
    parser.add_argument("texts", nargs="+", metavar="B", help="a text; a single - reads one from each line of stdin")
    add_model(parser)
    add_vector_options(parser)
    add_text_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints the cosine of each text's vector and the first one's, in the order of the texts."""
    with client(arguments) as connection:
        if not arguments.json and not reads_lines(arguments.texts):
            print("SIMILARITY  TEXT")
        for text, cosine in _cosines(connection, arguments):
            if arguments.json:
                print(json.dumps({"text": text, "similarity": round(cosine, 7)}, ensure_ascii=False))
            else:
                print(f"{cosine:10.4f}  {clipped(text, 100)}")
    return 0


def _cosines(connection: Client, arguments: argparse.Namespace) -> Iterator[tuple[str, float]]:
    options = {"timeout": arguments.timeout, **text_options(arguments), **vector_options(arguments)}
    first = _unit(connection.encode([arguments.first], **options))[0]
    for chunk in argument_texts(arguments.texts):
        yield from zip(chunk, (_unit(connection.encode(chunk, **options)) @ first).tolist(), strict=True)


def _unit(vectors: np.ndarray) -> np.ndarray:
    rows = np.asarray(vectors, np.float64)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-30))
