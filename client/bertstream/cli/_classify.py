"""`bertstream classify` and `bertstream zero-shot`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bertstream.cli._input import Line, add_text, add_texts, chunks, texts_of
from bertstream.cli._options import Commands, add_task_options, client, command, task_options, words
from bertstream.cli._output import print_json
from bertstream.cli._table import clipped, pad, printable, width

if TYPE_CHECKING:
    from bertstream.client import Label

EXAMPLES = """\
examples:
  bertstream classify "I love it." "I hate it."
  bertstream classify "A man sleeps." --pair "Nobody is awake."    a pair, such as of premise and hypothesis
  bertstream classify - --top-k 1 --json < texts.txt               a JSON object a line"""

ZERO_SHOT_EXAMPLES = """\
examples:
  bertstream zero-shot "The match ended in a draw." --labels sport,politics,weather
  bertstream zero-shot "Es regnet." --labels Sport,Wetter --template "Hier geht es um {}."
  bertstream zero-shot - --labels urgent,bug,praise --multi-label --json < mails.txt

Needs a checkpoint that was trained to tell entailment, such as one for MNLI."""


def add_to(commands: Commands) -> None:
    """Adds both commands."""
    classify = command(commands, "classify", run, "print the labels that the model gives texts", EXAMPLES)
    add_texts(classify)
    add_text(classify, "--pair", metavar="TEXT", help="the second text of a pair with each TEXT")
    classify.add_argument("--top-k", type=int, metavar="N", help="the best N labels (default: all)")
    functions = ["softmax", "sigmoid", "none"]
    classify.add_argument(
        "--function", choices=functions, help="from logits to scores (default: as the checkpoint says)"
    )
    add_task_options(classify)
    zero = command(commands, "zero-shot", run_zero_shot, "print which of your own labels fit texts", ZERO_SHOT_EXAMPLES)
    add_texts(zero)
    zero.add_argument("--labels", type=words, required=True, metavar="LABEL,…", help="the labels")
    zero.add_argument("--template", default="", help='with {} for the label (default: "This example is {}.")')
    zero.add_argument("--multi-label", action="store_true", help="any number of labels may be true")
    add_task_options(zero)


def run(arguments: argparse.Namespace) -> int:
    """Prints the labels."""
    options = {"top_k": arguments.top_k, "function": arguments.function, **task_options(arguments)}
    with texts_of(arguments, arguments.texts) as texts, client(arguments) as connection:

        def labels_of(chunk: list[str]) -> list[list[Label]]:
            items: list[Any] = [(text, arguments.pair) for text in chunk] if arguments.pair is not None else chunk
            return connection.classify(items, **options)

        _print_all(arguments, texts, labels_of)
    return 0


def run_zero_shot(arguments: argparse.Namespace) -> int:
    """Prints the labels."""
    options = {"template": arguments.template, "multi_label": arguments.multi_label, **task_options(arguments)}
    with texts_of(arguments, arguments.texts) as texts, client(arguments) as connection:
        _print_all(arguments, texts, lambda chunk: connection.zero_shot(chunk, arguments.labels, **options))
    return 0


def _print_all(
    arguments: argparse.Namespace, texts: Iterable[Line], labels_of: Callable[[list[str]], list[list[Label]]]
) -> None:
    for chunk in chunks(texts):
        for text, labels in zip(chunk, labels_of(chunk), strict=True):
            if arguments.json:
                found = [asdict(label) for label in labels]
                print_json({"text": text, "labels": found})
            else:
                _print_labels(text, labels)


def _print_labels(text: str, labels: Sequence[Label]) -> None:
    """A line a label; the first has the text too."""
    columns = max((width(printable(label.label)) for label in labels), default=0)
    for number, label in enumerate(labels):
        line = f"{label.score:8.4f}  {pad(printable(label.label), columns)}"
        print(f"{line}  {clipped(text, 80)}" if number == 0 else line.rstrip())
