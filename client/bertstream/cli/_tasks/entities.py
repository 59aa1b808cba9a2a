"""The command `bertstream entities`."""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from bertstream.cli._files import add_files, run_files, sources_of, wants_files
from bertstream.cli._input import add_texts, chunks, texts_of
from bertstream.cli._options import Commands, add_task_options, client, command, task_options, words
from bertstream.cli._output import has_colour, print_json
from bertstream.cli._table import clipped, printable, table

if TYPE_CHECKING:
    from bertstream.client import Entity

EXAMPLES = """\
examples:
  bertstream entities "Angela Merkel met Barack Obama in Berlin."
  bertstream entities "Angela Merkel" --aggregation none    the label of each token
  bertstream entities - --windows --json < documents.txt    one JSON object per line; long texts in overlapping windows
  bertstream entities documents.jsonl.gz --windows -o entities.parquet
  bertstream entities "Angela Merkel likes plums." --labels politician,fruit --threshold 0.3    by a GLiNER model

Terminals show entities coloured within their text, unless NO_COLOR is set; elsewhere they are printed as a table."""

HEADER = ("LABEL", "SCORE", "START", "END", "TEXT")
COLOURS = (81, 114, 214, 213, 227, 111, 208, 156)  # of a terminal's 256; readable on dark and light backgrounds
LABEL_COLOURS = {"PER": 81, "PERSON": 81, "LOC": 114, "GPE": 114, "ORG": 214, "MISC": 213}


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = command(commands, "entities", run, "print the entities in texts, or the labels of their tokens", EXAMPLES)
    add_texts(parser)
    strategies = ["none", "simple", "first", "average", "max"]
    parser.add_argument("--aggregation", choices=strategies, help="how tokens become entities (default: simple)")
    parser.add_argument("--ignored-labels", type=words, metavar="LABEL,…", help="labels to leave out (default: O)")
    parser.add_argument("--windows", action="store_true", help="read long texts in windows rather than cut them")
    parser.add_argument(
        "--stride", type=int, metavar="TOKENS", help="tokens that windows share (default: a quarter of a window)"
    )
    parser.add_argument("--labels", type=words, metavar="LABEL,…", help="what to look for (GLiNER models alone)")
    parser.add_argument(
        "--threshold", type=float, metavar="SCORE", help="with --labels, what scores must be above (default: 0.5)"
    )
    parser.add_argument("--nested", action="store_true", help="with --labels, entities may lie within each other")
    parser.add_argument("--multi-label", action="store_true", help="the same words may have several of the --labels")
    parser.add_argument("--table", action="store_true", help="print a table, even on a terminal")
    add_task_options(parser)
    add_files(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the entities."""
    names = ("aggregation", "ignored_labels", "windows", "stride", "labels", "threshold", "nested", "multi_label")
    options = {**{name: getattr(arguments, name) for name in names}, **task_options(arguments)}
    if wants_files(arguments, arguments.texts):
        return run_files(arguments, "entities", sources_of(arguments, arguments.texts), options)
    with texts_of(arguments, arguments.texts) as texts, client(arguments) as connection:
        for chunk in chunks(texts):
            for text, entities in zip(chunk, connection.entities(chunk, **options), strict=True):
                if arguments.json:
                    found = [asdict(entity) for entity in entities]
                    print_json({"text": text, "entities": found})
                elif has_colour() and not arguments.table:
                    print(coloured(text, entities))
                else:
                    _print_table(text, entities)
    return 0


def coloured(text: str, entities: Sequence[Entity]) -> str:
    """Return the text with its entities coloured, each followed by its label."""
    parts, end = list[str](), 0
    for entity in entities:
        if entity.start < end:  # overlaps the entity before
            continue
        colour = LABEL_COLOURS.get(entity.label, COLOURS[zlib.crc32(entity.label.encode()) % len(COLOURS)])
        span, label = printable(text[entity.start : entity.end]), printable(entity.label)
        parts += [printable(text[end : entity.start]), f"\x1b[1;38;5;{colour}m{span}\x1b[22m[{label}]\x1b[0m"]
        end = entity.end
    return "".join([*parts, printable(text[end:])])


def _print_table(text: str, entities: Sequence[Entity]) -> None:
    print(clipped(text, 100))
    rows = [
        (each.label, f"{each.score:.4f}", str(each.start), str(each.end), text[each.start : each.end])
        for each in entities
    ]
    print(table(HEADER, rows, right=(2, 3)) if rows else "no entities", end="\n\n")
