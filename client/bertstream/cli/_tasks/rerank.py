"""The command `bertstream rerank`."""

from __future__ import annotations

import argparse
from dataclasses import asdict

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
from bertstream.cli._output import print_json
from bertstream.cli._table import clipped
from bertstream.cli._tasks.labels import add_function

EXAMPLES = """\
examples:
  bertstream rerank "How many people live in Berlin?" "Berlin has 3.7 million people." "Berlin is old."
  bertstream rerank "a query" - --top-k 10 < documents.txt    the ten best lines
  bertstream rerank "a query" - --json < documents.txt        one JSON object per line, the best first
  bertstream rerank "a query" documents.parquet --column body -o scores.parquet     a score for each row
  bertstream rerank pairs.parquet --column query,document -o scores.parquet         or for each document of a list

This needs a cross-encoder, a checkpoint that scores pairs of a query and a document, or one for late interaction
(ColBERT)."""


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = command(commands, "rerank", run, "sort documents by their relevance to a query", EXAMPLES)
    add_text(parser, "query", metavar="QUERY", help="the query")
    documents = add_texts(parser, metavar="DOCUMENT", what="a document")
    parser.add_argument("--top-k", type=int, metavar="N", help="print the best N (default: all)")
    add_function(parser)
    parser.add_argument("--label", default="", help="the label whose score counts, if there are several")
    add_task_options(parser)
    add_window_options(parser)
    add_files(parser, unneeded=documents)


def run(arguments: argparse.Namespace) -> int:
    """Print the documents, the most relevant first."""
    if wants_files(arguments, arguments.texts):
        return _run_files(arguments)
    with texts_of(arguments, arguments.texts) as texts:
        documents = list(texts)
    options = {"top_k": arguments.top_k, "function": arguments.function, "label": arguments.label}
    with client(arguments) as connection:
        ranked = connection.rerank(
            arguments.query,
            [line.text for line in documents],
            **options,
            **task_options(arguments),
            **window_options(arguments),
        )
    if not arguments.json:
        print("     SCORE  INDEX  DOCUMENT")
    for each in ranked:
        index = documents[each.index].number  # counts lines that were skipped, too
        if arguments.json:
            print_json({**asdict(each), "index": index})
        else:
            print(f"{each.score:10.4f}  {index:5}  {clipped(each.document, 100)}")
    return 0


def _run_files(arguments: argparse.Namespace) -> int:
    """Write a score for each row: of its query and document, or of its document and the query that is given."""
    given = {name: getattr(arguments, name) for name in ("top_k", "function", "label")}
    options = {**given, **task_options(arguments), **window_options(arguments)}
    if arguments.texts or arguments.input is not None:
        documents = sources_of(arguments, arguments.texts)
        return run_files(arguments, "rerank", documents, options, first=arguments.query)
    return run_files(arguments, "rerank", [arguments.query], options)
