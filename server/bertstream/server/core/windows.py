"""Read long texts in windows, and make one answer of what is found in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.layout import Layout
from bertstream.workers.contract import WireType

WindowPooling = Literal["mean", "max", "weighted", "none"]
WINDOW_POOLINGS: tuple[WindowPooling, ...] = get_args(WindowPooling)
Floats = NDArray[np.float32]
_TINY = np.finfo(np.float32).tiny


@dataclass(frozen=True, slots=True)
class Windowing:
    """How long texts are cut into windows, and how one answer is made of these."""

    stride: int  # tokens that two neighbours share
    pooling: WindowPooling


def pool_windows(
    values: Floats, counts: NDArray[np.integer], tokens: NDArray[np.integer], how: WindowPooling
) -> Floats:
    """Return one row for each text, of the rows of its windows, which stand end to end.

    values: [w, d]; counts: [n], windows of each text, at least one; tokens: [w] of each window -> [n, d]. A text with
    one window has its row unchanged.
    """
    starts = np.cumsum(counts) - counts
    if how == "max":
        return np.maximum.reduceat(values, starts, axis=0)
    weights = tokens.astype(np.float64) if how == "weighted" else np.ones(len(values))
    sums = np.add.reduceat(values * weights[:, None], starts, axis=0)
    pooled = (sums / np.add.reduceat(weights, starts)[:, None]).astype(np.float32)
    alone = counts == 1
    pooled[alone] = values[starts[alone]]
    return pooled


def normalized(values: Floats) -> Floats:
    """Scale each row to unit length, as torch does: [n, d] -> [n, d]."""
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    scaled: Floats = values / np.maximum(norms, np.float32(1e-12))
    return scaled


def to_wire(name: str, values: Floats, wire_type: WireType) -> dict[str, NDArray[np.generic]]:
    """Return values [n, d] in the wire's type, as the workers do."""
    if wire_type == "int8":
        scales = np.maximum(np.abs(values).max(axis=1, initial=0.0) / np.float32(127), _TINY)
        quantized = np.clip(np.rint(values / scales[:, None]), -127, 127).astype(np.int8)
        return {name: quantized, f"{name}.scales": scales.astype(np.float32)}
    return {name: _CASTS[wire_type](values)}


def _to_bfloat16(values: Floats) -> NDArray[np.generic]:
    """Return the upper halves of float32, rounded to the nearest, and of two to the even one. NaN stays NaN."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = bits + 0x7FFF + (bits >> 16 & 1)
    upper = np.where(np.isnan(values), bits | 0x400000, rounded) >> 16
    return upper.astype(np.uint16).view(np.int16)


_CASTS: Mapping[str, Callable[[Floats], NDArray[np.generic]]] = {
    "float32": lambda values: np.ascontiguousarray(values),
    "float16": lambda values: values.astype(np.float16),
    "bfloat16": _to_bfloat16,
}


@dataclass(frozen=True, slots=True)
class WholeTexts:
    """The vectors of n texts, made of those of their windows."""

    texts: NDArray[np.int32]  # [n] their indexes in the message
    tensors: Mapping[str, NDArray[np.generic]]  # "pooled", a row for each text, or for each window where none is pooled
    layout: Layout
    window_counts: NDArray[np.int64] | None  # [n] where windows are not pooled


def whole_texts(
    vectors: Mapping[str, NDArray[np.generic]],
    texts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    pooling: WindowPooling,
    *,
    normalize: bool,
    wire_type: WireType,
) -> WholeTexts:
    """Make the vectors of texts of "pooled" [w, d] of their windows.

    texts: [w], ascending, the text of each window; lengths: [w], its tokens.
    """
    whole, counts = np.unique(texts, return_counts=True)
    starts = np.cumsum(counts) - counts
    tokens = np.add.reduceat(lengths, starts).astype(np.int32) if whole.size else lengths[:0]
    if not whole.size:
        return WholeTexts(whole, {}, Layout(tokens), None)
    if pooling == "none":
        return WholeTexts(whole, vectors, Layout(tokens, counts.astype(np.int32)), counts.astype(np.int64))
    rows = vectors["pooled"].astype(np.float32)
    pooled = pool_windows(rows, counts, lengths, pooling)
    if normalize:  # of a text with one window, a vector that is normalised already is left as it is
        pooled = np.where((counts == 1)[:, None], pooled, normalized(pooled))
    return WholeTexts(whole, to_wire("pooled", pooled, wire_type), Layout(tokens), None)
