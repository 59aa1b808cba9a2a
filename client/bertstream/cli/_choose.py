"""`bertstream choose` and `bertstream next-sentence`: which text goes with another."""

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

NEXT_EXAMPLES = """\
examples:
  bertstream next-sentence "He opened the umbrella." "It had begun to rain."
  bertstream next-sentence "He opened the umbrella." "Bananas are rich in potassium." --json"""


def add_to(commands: Commands) -> None:
    """Adds both commands."""
    follows = command(
        commands, "next-sentence", run_next, "print how probable it is that a text follows another", NEXT_EXAMPLES
    )
    add_text(follows, "first", metavar="A", help="the first text")
    add_text(follows, "second", metavar="B", help="the one that may follow")
    add_task_options(follows)
    choose = command(commands, "choose", run, "print how probable each choice is", EXAMPLES)
    add_text(choose, "prompt", metavar="PROMPT", help="what the choices are for")
    add_text(choose, "choices", nargs="+", metavar="CHOICE", help="a choice")
    add_task_options(choose)


def run(arguments: argparse.Namespace) -> int:
    """Prints the choices, the most probable first."""
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


def run_next(arguments: argparse.Namespace) -> int:
    """Prints the probability."""
    with client(arguments) as connection:
        probability = connection.next_sentence(arguments.first, arguments.second, **task_options(arguments))
    if arguments.json:
        values = {"first": arguments.first, "second": arguments.second, "probability": probability}
        print_json(values)
    else:
        print(f"{probability:.4f}")
    return 0
