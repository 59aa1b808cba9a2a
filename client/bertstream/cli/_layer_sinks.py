"""The outputs of `bertstream layers`: one line per layer, JSON, or a .npz file."""

from __future__ import annotations

import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertstream.cli._output import print_json
from bertstream.cli._table import clipped
from bertstream.cli._writers import OutputFile
from bertstream.client import Layer, LayerKind

_ARRAYS: dict[LayerKind, str] = {"hidden_states": "layer", "attentions": "attention"}
HEADER = "LAYER  SHAPE          MEAN NORM  COSINE TO THE ONE BEFORE"


class Sink(OutputFile):
    """Prints one line per layer, for people."""

    def __init__(self, output: Path | None, text: str) -> None:
        super().__init__(output)
        self._text = text
        self._before: NDArray[np.floating] = np.empty(0)

    def write(self, layer: Layer) -> None:
        """Print or save a layer."""
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

    def about(self) -> str:
        """Return in words what was written into a file."""
        return ""


class JsonLines(Sink):
    """Prints one JSON object per layer, and one for its attentions; the first one also has the tokens."""

    def write(self, layer: Layer) -> None:
        values: dict[str, object] = {} if self._before.size else _token_columns(layer)
        self._before = layer.array
        name = "attention" if layer.kind == "attentions" else "hidden_state"
        values |= {"layer": layer.layer, name: layer.array.tolist()}
        print_json(values)


class Archive(Sink):
    """Writes a .npz file, with one layer in memory at a time."""

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
            with suppress(OSError):  # the file is removed anyway, but must still be open when the archive is closed
                self._archive.close()
        super().__exit__(kind, error, traceback)

    def finish(self) -> None:
        """Write the archive's directory."""
        if self._archive:
            self._archive.close()

    def about(self) -> str:
        """Return in words what was written."""
        return "; ".join(f"{_ARRAYS[kind]}s {', '.join(layers)}" for kind, layers in self._written.items())

    def _add(self, name: str, array: np.ndarray) -> None:
        assert self._archive is not None
        with self._archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
            np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)


def _token_columns(layer: Layer) -> dict[str, object]:
    offsets = layer.offsets.tolist()
    return {"token_ids": layer.token_ids.tolist(), "tokens": list(layer.tokens), "offsets": offsets}


def _mean_cosine(ours: np.ndarray, theirs: np.ndarray) -> float:
    norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return float(((ours * theirs).sum(axis=1) / norms.clip(1e-30)).mean())
