"""The command `bertstream attention`."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bertstream.cli._input import add_text
from bertstream.cli._options import Commands, add_model, add_text_options, client, command, suffixed, text_options
from bertstream.cli._output import has_colour, note, print_json, shows
from bertstream.cli._table import clipped

if TYPE_CHECKING:
    from bertstream.cli._map import Weights
    from bertstream.client import Outputs

EXAMPLES = """\
examples:
  bertstream attention "The cat sat."                        the last layer, the mean of its heads
  bertstream attention "The cat sat." --layer 3 --head 2     layers count from 1, heads from 0
  bertstream attention "The cat sat." --layer 3 -o map.png   a picture, without labels
  bertstream attention "The cat sat." --json

A row is a token that attends, a column one that it attends to; the lightest cell has the largest weight of the map.
Colours appear only on terminals, and not if NO_COLOR is set."""

PICTURE_PIXELS, MOST_CELL_PIXELS = 1024, 32


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = command(commands, "attention", run, "draw which tokens of a text attend to which", EXAMPLES)
    add_text(parser, "text", metavar="TEXT", help="the text")
    parser.add_argument("--layer", type=int, default=-1, metavar="K", help="1 is the first (default: -1, the last)")
    parser.add_argument("--head", type=int, metavar="H", help="0 is the first (default: the mean of all)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="draw it into FILE.png")
    add_model(parser)
    add_text_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Draw the map."""
    output = suffixed(arguments.output, ".png")
    options = {"layers": arguments.layer, "heads": arguments.head, "timeout": arguments.timeout}
    with client(arguments) as connection:
        (outputs,) = connection.forward([arguments.text], ["attentions"], **options, **text_options(arguments))
    ((layer, maps),) = outputs.attentions.items()
    weights = maps.astype("float32").mean(axis=0)
    if output is not None:
        _save(output, weights)
    elif arguments.json:
        _print_json(arguments, outputs, layer, weights)
    else:
        head = "the mean of all heads" if arguments.head is None else f"head {outputs.heads[0]}"
        print(f"{clipped(arguments.text, 60)}  (layer {layer}, {head})")
        _print_map(outputs.tokens, weights)
    return 0


def _print_map(tokens: Sequence[str], weights: Weights) -> None:
    from bertstream.cli._map import ASCII_SHADES, SHADES, draw

    shades = SHADES if shows(SHADES) else ASCII_SHADES
    print(draw(weights, tokens, shutil.get_terminal_size().columns, has_colour(), shades))


def _save(output: Path, weights: Weights) -> None:
    from bertstream.cli._palette import colours
    from bertstream.cli._png import enlarged, png
    from bertstream.cli._writers import OutputFile

    size = max(1, min(MOST_CELL_PIXELS, PICTURE_PIXELS // max(1, len(weights))))
    picture = png(enlarged(colours(weights / (weights.max(initial=0.0) or 1.0)), size))
    with OutputFile(output) as file:
        file.binary_file().write(picture)
    count = len(weights)
    note(f"{output}: {count} × {count} weights, each {size} × {size} pixels")


def _print_json(arguments: argparse.Namespace, outputs: Outputs, layer: int, weights: Weights) -> None:
    head = None if arguments.head is None else outputs.heads[0]
    values = {"layer": layer, "head": head, "tokens": outputs.tokens, "weights": weights.tolist()}
    print_json(values)
