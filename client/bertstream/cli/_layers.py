"""The command `bertstream layers`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bertstream.cli._input import add_text
from bertstream.cli._options import (
    Commands,
    add_model,
    add_text_options,
    client,
    command,
    numbers,
    suffixed,
    text_options,
)
from bertstream.cli._output import note

if TYPE_CHECKING:
    from bertstream.cli._layer_sinks import Sink
    from bertstream.client import Output

EXAMPLES = """\
examples:
  bertstream layers "A text"                                a line for each layer, as it is computed
  bertstream layers "A text" --layers 0,6,12 -o out.npz     layer_0, layer_6, layer_12, token_ids, tokens, offsets
  bertstream layers "A text" --layers=-1 --json             one JSON object per layer
  bertstream layers "A text" --attentions -o out.npz        also attention_1, attention_2, … [heads, tokens, tokens]

Layer 0 is the embeddings' output. Layers above the highest that is asked for are not computed."""


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = command(
        commands, "layers", run, "print or save the hidden states and attentions of a text, layer by layer", EXAMPLES
    )
    add_text(parser, "text", metavar="TEXT", help="the text")
    parser.add_argument("--layers", type=numbers, metavar="K,…", help="such as 0,6,12 or =-1,-2 (default: all)")
    parser.add_argument("--attentions", action="store_true", help="also the attention weights of these layers")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write to FILE.npz")
    add_model(parser)
    add_text_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print each layer, or write it, as it comes."""
    from bertstream.client import Layer

    options = {"layers": arguments.layers, "timeout": arguments.timeout, **text_options(arguments)}
    outputs: list[Output] = ["hidden_states", "attentions"] if arguments.attentions else ["hidden_states"]
    with client(arguments) as connection, _sink(arguments) as sink:
        for event in connection.stream_layers([arguments.text], outputs, **options):
            if isinstance(event, Layer):
                sink.write(event)
    if arguments.output is not None:
        note(f"{arguments.output}: {sink.about()}")
    return 0


def _sink(arguments: argparse.Namespace) -> Sink:
    from bertstream.cli._layer_sinks import Archive, JsonLines, Sink

    output = suffixed(arguments.output, ".npz")
    if output is not None:
        return Archive(output, arguments.text)
    return (JsonLines if arguments.json else Sink)(None, arguments.text)
