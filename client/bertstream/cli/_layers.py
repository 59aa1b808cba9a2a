"""`bertstream layers`."""

from __future__ import annotations

import argparse
import json
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
from bertstream.cli._table import clipped
from bertstream.cli._writers import OutputFile
from bertstream.client import Layer
from bertstream.client._types import LayerKind, Output

EXAMPLES = """\
examples:
  bertstream layers "A text"                                a line for each layer, as it is computed
  bertstream layers "A text" --layers 0,6,12 -o out.npz     layer_0, layer_6, layer_12, token_ids, tokens, offsets
  bertstream layers "A text" --layers=-1 --json             a JSON object a layer
  bertstream layers "A text" --attentions -o out.npz        attention_1, attention_2, … [heads, tokens, tokens] too

Layer 0 is the embeddings' output. Layers above the highest that is asked for are not computed."""

_ARRAYS: dict[LayerKind, str] = {"hidden_states": "layer", "attentions": "attention"}
HEADER = "LAYER  SHAPE          MEAN NORM  COSINE TO THE ONE BEFORE"


def add_to(commands: Commands) -> None:
    """Adds the command."""
    parser = command(
        commands, "layers", run, "print or save the hidden states and attentions of a text, layer by layer", EXAMPLES
    )
    parser.add_argument("text", metavar="TEXT", help="the text")
    parser.add_argument("--layers", type=numbers, metavar="K,…", help="such as 0,6,12 or =-1,-2 (default: all)")
    parser.add_argument("--attentions", action="store_true", help="the attention weights of the same layers too")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write to FILE.npz")
    add_model(parser)
    add_text_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints each layer, or writes it, as it comes."""
    options = {"layers": arguments.layers, "timeout": arguments.timeout, **text_options(arguments)}
    outputs: list[Output] = ["hidden_states", "attentions"] if arguments.attentions else ["hidden_states"]
    with client(arguments) as connection, _sink(arguments) as sink:
        for event in connection.stream_layers([arguments.text], outputs, **options):
            if isinstance(event, Layer):
                sink.write(event)
    return 0


class _Sink(OutputFile):
    """For people: a line a layer."""

    def __init__(self, output: Path | None, text: str) -> None:
        super().__init__(output)
        self._text = text
        self._before: NDArray[np.floating] = np.empty(0)

    def write(self, layer: Layer) -> None:
        """Takes a layer."""
        if layer.kind == "attentions":
            print(f"{layer.layer:5}  {list(layer.array.shape)!s:<12}  attentions", flush=True)
            return
        states = np.asarray(layer.array, np.float32)
        if not self._before.size:
            print(f"{clipped(self._text, 100)}  ({len(states)} tokens)\n{HEADER}")
        norm = float(np.linalg.norm(states, axis=1).mean())
        cosine = f"{_mean_cosine(states, self._before):.4f}" if self._before.size else "-"
        print(f"{layer.layer:5}  {list(states.shape)!s:<12}  {norm:10.4f}  {cosine}", flush=True)
        self._before = states


class _Lines(_Sink):
    """A JSON object a layer, and one for its attentions; the first has the tokens too."""

    def write(self, layer: Layer) -> None:
        values: dict[str, object] = {} if self._before.size else _token_columns(layer)
        self._before = layer.array
        name = "attention" if layer.kind == "attentions" else "hidden_state"
        values |= {"layer": layer.layer, name: layer.array.tolist()}
        print(json.dumps(values, ensure_ascii=False))


class _Archive(_Sink):
    """A .npz file. One layer is held at a time."""

    _archive: zipfile.ZipFile | None = None

    def __init__(self, output: Path | None, text: str) -> None:
        super().__init__(output, text)
        self._written: dict[LayerKind, list[str]] = {}

    def write(self, layer: Layer) -> None:
        if self._archive is None:
            self._archive = zipfile.ZipFile(self.binary_file(), "w", allowZip64=True)
            self._add("token_ids", layer.token_ids)
            self._add("tokens", np.array(layer.tokens))
            self._add("offsets", layer.offsets)
        self._add(f"{_ARRAYS[layer.kind]}_{layer.layer}", layer.array)
        self._written.setdefault(layer.kind, []).append(str(layer.layer))

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if self._archive and kind is not None:
            with suppress(OSError):  # its file goes, but it must not find that closed
                self._archive.close()
        super().__exit__(kind, error, traceback)

    def finish(self) -> None:
        """Writes the archive's directory."""
        if self._archive:
            self._archive.close()
        kinds = [f"{_ARRAYS[kind]}s {', '.join(layers)}" for kind, layers in self._written.items()]
        print(f"{self._output}: {'; '.join(kinds)}")

    def _add(self, name: str, array: np.ndarray) -> None:
        assert self._archive is not None
        with self._archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
            np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)


def _sink(arguments: argparse.Namespace) -> _Sink:
    output = suffixed(arguments.output, ".npz")
    if output is not None:
        return _Archive(output, arguments.text)
    return (_Lines if arguments.json else _Sink)(None, arguments.text)


def _token_columns(layer: Layer) -> dict[str, object]:
    offsets = layer.offsets.tolist()
    return {"token_ids": layer.token_ids.tolist(), "tokens": list(layer.tokens), "offsets": offsets}


def _mean_cosine(ours: np.ndarray, theirs: np.ndarray) -> float:
    norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return float(((ours * theirs).sum(axis=1) / norms.clip(1e-30)).mean())
