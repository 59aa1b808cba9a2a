"""The command `bertstream sparse`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from bertstream.cli._files import add_files, run_files, sources_of, wants_files
from bertstream.cli._input import add_texts, chunks, texts_of
from bertstream.cli._options import (
    Commands,
    add_prompt,
    add_task_options,
    client,
    command,
    prompt_options,
    task_options,
)
from bertstream.cli._output import print_json
from bertstream.cli._table import clipped, table

if TYPE_CHECKING:
    from bertstream.client import SparseVector

_SHOWN = 20

EXAMPLES = """\
examples:
  bertstream sparse "A cat sleeps on the warm roof." --model splade
  bertstream sparse - --top-k 128 --json < texts.txt      one JSON object per line, with ids and weights
  bertstream sparse corpus.parquet --column body --top-k 128 -o weights.parquet

It needs a model with a masked language model's head, and makes sense with one that was trained for search by sparse
vectors, such as naver/splade-v3."""


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = command(commands, "sparse", run, "print the weights of a text's tokens and of related ones", EXAMPLES)
    add_texts(parser)
    about = f"the tokens with the greatest weights (default: as the checkpoint says; the table shows {_SHOWN} of them)"
    parser.add_argument("--top-k", type=int, metavar="N", help=about)
    add_prompt(parser)
    add_task_options(parser)
    add_files(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the weights."""
    options = {"top_k": arguments.top_k, "tokens": True, **prompt_options(arguments), **task_options(arguments)}
    if wants_files(arguments, arguments.texts):
        return run_files(arguments, "encode_sparse", sources_of(arguments, arguments.texts), options)
    with texts_of(arguments, arguments.texts) as texts, client(arguments) as connection:
        for chunk in chunks(texts):
            for text, vector in zip(chunk, connection.encode_sparse(chunk, **options), strict=True):
                if arguments.json:
                    columns = {"token_ids": vector.token_ids.tolist(), "weights": vector.weights.tolist()}
                    print_json({"text": text, **columns, "tokens": list(vector.tokens)})
                else:
                    _print_weights(text, vector, _SHOWN if arguments.top_k is None else arguments.top_k)
    return 0


def _print_weights(text: str, vector: SparseVector, most: int) -> None:
    print(clipped(text, 100))
    best = sorted(zip(vector.weights.tolist(), vector.tokens, strict=True), key=lambda each: -each[0])[:most]
    print(table(("WEIGHT", "TOKEN"), [(f"{weight:.4f}", clipped(token, 100)) for weight, token in best]), end="\n\n")
