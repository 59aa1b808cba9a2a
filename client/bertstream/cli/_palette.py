"""Colours for numbers, perceptually uniform: matplotlib's viridis, interpolated between eleven of its colours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# fmt: off
_ANCHORS = np.array([
    (68, 1, 84), (72, 36, 117), (65, 68, 135), (53, 95, 141), (42, 120, 142), (33, 145, 140),
    (34, 168, 132), (68, 191, 112), (122, 209, 81), (189, 223, 38), (253, 231, 37),
], np.float64)
# fmt: on


def colours(shares: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return the red, green and blue of numbers from 0 (dark) to 1 (light): [...] -> [..., 3]."""
    places = np.linspace(0, 1, len(_ANCHORS))
    channels = [np.interp(shares, places, _ANCHORS[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def terminal_colours(shares: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the numbers of the nearest of the 216 colours that terminals have beyond the first 16."""
    red, green, blue = np.moveaxis(np.rint(colours(shares) / 255 * 5).astype(np.int64), -1, 0)
    return np.asarray(16 + 36 * red + 6 * green + blue)
