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
    from bertstream.client import HeatMaps, Outputs

EXAMPLES = """\
examples:
  bertstream attention "The cat sat."                        the last layer, the mean of its heads
  bertstream attention "The cat sat." --layer 3 --head 2     layers count from 1, heads from 0
  bertstream attention "The cat sat." --layer 3 -o map.svg   a picture, whose squares tell their weights
  bertstream attention "The cat sat." --layer 3 --all-heads -o heads.svg
  bertstream attention "The cat sat." -o map.png             pixels alone, without labels
  bertstream attention "The cat sat." --json

A row is a token that attends, a column one that it attends to; the lightest cell has the largest weight of the map.
Colours appear only on terminals, and not if NO_COLOR is set."""

PICTURE_PIXELS, MOST_CELL_PIXELS = 1024, 32
ACROSS, GAP_PIXELS = 4, 8  # of the maps of several heads


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = command(commands, "attention", run, "draw which tokens of a text attend to which", EXAMPLES)
    add_text(parser, "text", metavar="TEXT", help="the text")
    parser.add_argument("--layer", type=int, default=-1, metavar="K", help="1 is the first (default: -1, the last)")
    heads = parser.add_mutually_exclusive_group()
    heads.add_argument("--head", type=int, metavar="H", help="0 is the first (default: the mean of all)")
    heads.add_argument("--all-heads", action="store_true", help="a map of each head, in one picture")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="draw it into FILE.svg or FILE.png")
    add_model(parser)
    add_text_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Draw the map."""
    output = suffixed(arguments.output, ".svg", ".png")
    options = {"layers": arguments.layer, "heads": arguments.head, "timeout": arguments.timeout}
    with client(arguments) as connection:
        (outputs,) = connection.forward([arguments.text], ["attentions"], **options, **text_options(arguments))
    chosen = _chosen(arguments, outputs)
    if output is not None:
        _save(output, chosen)
    elif arguments.json:
        _print_json(arguments, outputs, chosen)
    else:
        for each in chosen.maps:
            print(f"{clipped(arguments.text, 60)}  ({each.title})")
            _print_map(outputs.tokens, each.values)
    return 0


def _chosen(arguments: argparse.Namespace, outputs: Outputs) -> HeatMaps:
    """Return the maps that the options ask for: those of all heads, that of one, or the mean."""
    from bertstream.client import HeatMap, HeatMaps

    ((layer, maps),) = outputs.attentions.items()
    each_head = arguments.all_heads or arguments.head is not None
    titles = [f"head {head}" for head in outputs.heads] if each_head else ["the mean of all heads"]
    weights = maps.astype("float32")
    drawn = weights if each_head else weights.mean(axis=0, keepdims=True)
    tokens = outputs.tokens
    pairs = zip(titles, drawn, strict=True)
    return HeatMaps([HeatMap(values, tokens, tokens, f"layer {layer}, {title}") for title, values in pairs], ACROSS)


def _print_map(tokens: Sequence[str], weights: Weights) -> None:
    from bertstream.cli._map import ASCII_SHADES, SHADES, draw

    shades = SHADES if shows(SHADES) else ASCII_SHADES
    print(draw(weights, tokens, shutil.get_terminal_size().columns, has_colour(), shades))


def _save(output: Path, chosen: HeatMaps) -> None:
    from bertstream.cli._writers import OutputFile

    count, size = len(chosen[0].rows), _cell_pixels(chosen)
    picture = chosen.svg().encode() if output.suffix == ".svg" else _pixels(chosen, size)
    with OutputFile(output) as file:
        file.binary_file().write(picture)
    heads = f"{len(chosen)} maps of " if len(chosen) > 1 else ""
    pixels = f", each {size} × {size} pixels" if output.suffix == ".png" else ""
    note(f"{output}: {heads}{count} × {count} weights{pixels}")


def _cell_pixels(chosen: HeatMaps) -> int:
    across = min(ACROSS, len(chosen))
    return max(1, min(MOST_CELL_PIXELS, PICTURE_PIXELS // max(1, across * len(chosen[0].rows))))


def _pixels(chosen: HeatMaps, size: int) -> bytes:
    from bertstream.cli._palette import colours
    from bertstream.cli._png import enlarged, png, tiled

    shares = (each.values / (each.values.max(initial=0.0) or 1.0) for each in chosen.maps)
    pictures = [enlarged(colours(each), size) for each in shares]
    return png(tiled(pictures, min(ACROSS, len(pictures)), GAP_PIXELS))


def _print_json(arguments: argparse.Namespace, outputs: Outputs, chosen: HeatMaps) -> None:
    (layer,) = outputs.attentions
    heads = list(outputs.heads)
    told = {"heads": heads} if arguments.all_heads else {"head": None if arguments.head is None else heads[0]}
    weights = [each.values.tolist() for each in chosen.maps]
    print_json(
        {"layer": layer, **told, "tokens": outputs.tokens, "weights": weights if arguments.all_heads else weights[0]}
    )
