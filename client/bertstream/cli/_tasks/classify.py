"""The command `bertstream classify`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from bertstream.cli._files import add_files, run_files, sources_of, wants_files
from bertstream.cli._input import add_text, add_texts, texts_of
from bertstream.cli._options import (
    Commands,
    add_task_options,
    add_window_options,
    client,
    command,
    task_options,
    window_options,
)
from bertstream.cli._tasks.labels import add_function, print_labels

if TYPE_CHECKING:
    from bertstream.client import Label

EXAMPLES = """\
examples:
  bertstream classify "I love it." "I hate it."
  bertstream classify "A man sleeps." --pair "Nobody is awake."    a pair, such as a premise and a hypothesis
  bertstream classify - --top-k 1 --json < texts.txt               one JSON object per line
  bertstream classify reviews.csv --column review --keep id -o labels.parquet"""


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = command(commands, "classify", run, "print the model's labels of texts", EXAMPLES)
    add_texts(parser)
    add_text(parser, "--pair", metavar="TEXT", help="the second text of a pair with each TEXT")
    parser.add_argument("--top-k", type=int, metavar="N", help="print the best N labels (default: all)")
    add_function(parser)
    add_task_options(parser)
    add_window_options(parser)
    add_files(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the labels."""
    options = {
        "top_k": arguments.top_k,
        "function": arguments.function,
        **task_options(arguments),
        **window_options(arguments),
    }
    if wants_files(arguments, arguments.texts):
        return run_files(arguments, "classify", sources_of(arguments, arguments.texts), options, second=arguments.pair)
    with texts_of(arguments, arguments.texts) as texts, client(arguments) as connection:

        def labels_of(chunk: list[str]) -> list[list[Label]]:
            items: list[Any] = [(text, arguments.pair) for text in chunk] if arguments.pair is not None else chunk
            return connection.classify(items, **options)

        print_labels(arguments, texts, labels_of)
    return 0
