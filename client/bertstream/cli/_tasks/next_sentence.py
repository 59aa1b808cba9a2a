"""The command `bertstream next-sentence`."""

from __future__ import annotations

import argparse

from bertstream.cli._input import add_text
from bertstream.cli._options import Commands, add_task_options, client, command, task_options
from bertstream.cli._output import print_json

EXAMPLES = """\
examples:
  bertstream next-sentence "He opened the umbrella." "It had begun to rain."
  bertstream next-sentence "He opened the umbrella." "Bananas are rich in potassium." --json"""


def add_to(commands: Commands) -> None:
    """Add the command."""
    summary = "print how probable it is that a text follows another"
    parser = command(commands, "next-sentence", run, summary, EXAMPLES)
    add_text(parser, "first", metavar="A", help="the first text")
    add_text(parser, "second", metavar="B", help="the text that may follow")
    add_task_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the probability."""
    with client(arguments) as connection:
        probability = connection.next_sentence(arguments.first, arguments.second, **task_options(arguments))
    if arguments.json:
        values = {"first": arguments.first, "second": arguments.second, "probability": probability}
        print_json(values)
    else:
        print(f"{probability:.4f}")
    return 0
