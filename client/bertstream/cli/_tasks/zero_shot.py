"""The command `bertstream zero-shot`."""

from __future__ import annotations

import argparse

from bertstream.cli._files import add_files, run_files, sources_of, wants_files
from bertstream.cli._input import add_texts, texts_of
from bertstream.cli._options import Commands, add_task_options, client, command, task_options, words
from bertstream.cli._tasks.labels import print_labels

EXAMPLES = """\
examples:
  bertstream zero-shot "The match ended in a draw." --labels sport,politics,weather
  bertstream zero-shot "Es regnet." --labels Sport,Wetter --template "Hier geht es um {}."
  bertstream zero-shot - --labels urgent,bug,praise --multi-label --json < mails.txt
  bertstream zero-shot mails.csv --column body --labels urgent,bug,praise -o labels.parquet

This needs a checkpoint that was trained for entailment, such as one for MNLI."""


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = command(commands, "zero-shot", run, "print which of your own labels fit texts", EXAMPLES)
    add_texts(parser)
    parser.add_argument("--labels", type=words, required=True, metavar="LABEL,…", help="the labels")
    parser.add_argument("--template", default="", help='with {} for the label (default: "This example is {}.")')
    parser.add_argument("--multi-label", action="store_true", help="any number of labels may be true")
    add_task_options(parser)
    add_files(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the labels."""
    options = {"template": arguments.template, "multi_label": arguments.multi_label, **task_options(arguments)}
    if wants_files(arguments, arguments.texts):
        sources = sources_of(arguments, arguments.texts)
        return run_files(arguments, "zero_shot", sources, {"labels": arguments.labels, **options})
    with texts_of(arguments, arguments.texts) as texts, client(arguments) as connection:
        print_labels(arguments, texts, lambda chunk: connection.zero_shot(chunk, arguments.labels, **options))
    return 0
