"""`bertstream rerank`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from bertstream.cli._input import lines, reads_lines
from bertstream.cli._options import Commands, add_task_options, client, command, task_options
from bertstream.cli._table import clipped

EXAMPLES = """\
examples:
  bertstream rerank "How many people live in Berlin?" "Berlin has 3.7 million people." "Berlin is old."
  bertstream rerank "a query" - --top-k 10 < documents.txt    the ten best lines
  bertstream rerank "a query" - --json < documents.txt        a JSON object a line, the best first

Needs a cross-encoder: a checkpoint that scores pairs of a query and a document."""


def add_to(commands: Commands) -> None:
    """Adds the command."""
    parser = command(commands, "rerank", run, "sort documents by their relevance to a query", EXAMPLES)
    parser.add_argument("query", metavar="QUERY", help="what is looked for")
    parser.add_argument(
        "documents", nargs="+", metavar="DOCUMENT", help="a document; a single - reads one from each line of stdin"
    )
    parser.add_argument("--top-k", type=int, metavar="N", help="the best N (default: all)")
    functions = ["softmax", "sigmoid", "none"]
    parser.add_argument("--function", choices=functions, help="from logits to scores (default: as the checkpoint says)")
    parser.add_argument("--label", default="", help="the label whose score counts, where there are several")
    add_task_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints the documents, the most relevant first."""
    documents = list(lines()) if reads_lines(arguments.documents) else arguments.documents
    options = {"top_k": arguments.top_k, "function": arguments.function, "label": arguments.label}
    with client(arguments) as connection:
        ranked = connection.rerank(arguments.query, documents, **options, **task_options(arguments))
    if not arguments.json:
        print("     SCORE  INDEX  DOCUMENT")
    for each in ranked:
        if arguments.json:
            print(json.dumps(asdict(each), ensure_ascii=False))
        else:
            print(f"{each.score:10.4f}  {each.index:5}  {clipped(each.document, 100)}")
    return 0
