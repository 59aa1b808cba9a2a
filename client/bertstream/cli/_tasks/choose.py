"""The command `bertstream choose`."""

from __future__ import annotations

import argparse

from bertstream.cli._input import add_text
from bertstream.cli._options import Commands, add_task_options, client, command, task_options
from bertstream.cli._output import print_json
from bertstream.cli._table import clipped

EXAMPLES = """\
examples:
  bertstream choose "He opened the umbrella since" "it rained." "it was Monday." "he was hungry."
  bertstream choose "The fox" jumps sleeps --json       in the order of the choices"""


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = command(commands, "choose", run, "print how probable each choice is", EXAMPLES)
    add_text(parser, "prompt", metavar="PROMPT", help="what the choices are for")
    add_text(parser, "choices", nargs="+", metavar="CHOICE", help="a choice")
    add_task_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the choices, the most probable first."""
    with client(arguments) as connection:
        probabilities = connection.choose(arguments.prompt, arguments.choices, **task_options(arguments))
    found = list(zip(arguments.choices, probabilities, strict=True))
    if arguments.json:
        choices = [{"choice": choice, "probability": probability} for choice, probability in found]
        print_json({"prompt": arguments.prompt, "choices": choices})
        return 0
    print("PROBABILITY  CHOICE")
    for choice, probability in sorted(found, key=lambda each: -each[1]):
        print(f"{probability:11.4f}  {clipped(choice, 100)}")
    return 0
