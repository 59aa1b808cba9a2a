"""The parts that commands which print labels share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from bertstream.cli._input import Line, chunks
from bertstream.cli._output import print_json
from bertstream.cli._table import clipped, pad, printable, width

if TYPE_CHECKING:
    from bertstream.client import Label

SCORE_FUNCTIONS = ("softmax", "sigmoid", "none")


def add_function(parser: argparse.ArgumentParser) -> None:
    """Add the option --function."""
    help_text = "how logits become scores (default: as the checkpoint says)"
    parser.add_argument("--function", choices=SCORE_FUNCTIONS, help=help_text)


def print_labels(
    arguments: argparse.Namespace, texts: Iterable[Line], labels_of: Callable[[list[str]], list[list[Label]]]
) -> None:
    """Print the labels of each text."""
    for chunk in chunks(texts):
        for text, labels in zip(chunk, labels_of(chunk), strict=True):
            if arguments.json:
                found = [asdict(label) for label in labels]
                print_json({"text": text, "labels": found})
            else:
                _print_labels(text, labels)


def _print_labels(text: str, labels: Sequence[Label]) -> None:
    """Print one line per label; the first one also has the text."""
    columns = max((width(printable(label.label)) for label in labels), default=0)
    for number, label in enumerate(labels):
        line = f"{label.score:8.4f}  {pad(printable(label.label), columns)}"
        print(f"{line}  {clipped(text, 80)}" if number == 0 else line.rstrip())
