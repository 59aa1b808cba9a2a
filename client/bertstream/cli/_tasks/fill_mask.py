"""The command `bertstream fill-mask`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from bertstream.cli._files import add_files, run_files, sources_of, wants_files
from bertstream.cli._input import add_texts, chunks, texts_of
from bertstream.cli._options import Commands, add_task_options, client, command, task_options, words
from bertstream.cli._output import print_json
from bertstream.cli._table import clipped, table

if TYPE_CHECKING:
    from bertstream.client import Candidate

EXAMPLES = """\
examples:
  bertstream fill-mask "Paris is the [MASK] of France."
  bertstream fill-mask "She is a [MASK]." --targets doctor,nurse    the probabilities of these two
  bertstream fill-mask - --top-k 1 --json < texts.txt               one JSON object per line
  bertstream fill-mask texts.txt --top-k 3 -o candidates.jsonl

Write [MASK], or the model's own mask token. Several masks are filled one at a time, while the others stay masked."""


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = command(commands, "fill-mask", run, "print the candidates for masked tokens", EXAMPLES)
    add_texts(parser)
    parser.add_argument("--top-k", type=int, metavar="N", help="candidates for each mask (default: 5)")
    parser.add_argument("--targets", type=words, metavar="WORD,…", help="the only candidates to consider")
    add_task_options(parser)
    add_files(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the candidates."""
    options = {"top_k": arguments.top_k, "targets": arguments.targets, **task_options(arguments)}
    if wants_files(arguments, arguments.texts):
        return run_files(arguments, "fill_mask", sources_of(arguments, arguments.texts), options)
    with texts_of(arguments, arguments.texts) as texts, client(arguments) as connection:
        for chunk in chunks(texts):
            for text, masks in zip(chunk, connection.fill_mask(chunk, **options), strict=True):
                if arguments.json:
                    found = [[asdict(candidate) for candidate in mask] for mask in masks]
                    print_json({"text": text, "masks": found})
                else:
                    _print_masks(text, masks)
    return 0


def _print_masks(text: str, masks: list[list[Candidate]]) -> None:
    print(clipped(text, 100))
    for number, mask in enumerate(masks, 1):
        header = ("SCORE", "TOKEN", "TEXT" if len(masks) == 1 else f"TEXT WITH MASK {number}")
        rows = [(f"{each.score:.4f}", each.token, clipped(each.sequence, 100)) for each in mask]
        print(table(header, rows), end="\n\n")
