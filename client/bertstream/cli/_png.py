"""PNG pictures (RFC 2083), without a library."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Return the PNG file of a picture: [height, width, 3], red, green and blue."""
    height, width, _ = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB, not interlaced
    unfiltered = np.zeros((height, 1), np.uint8)  # each row begins with the type of its filter
    rows = np.hstack([unfiltered, pixels.reshape(height, -1)]).tobytes()
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def enlarged(pixels: NDArray[np.uint8], times: int) -> NDArray[np.uint8]:
    """Return the picture with each pixel as a square of `times` by `times` pixels."""
    return pixels.repeat(times, axis=0).repeat(times, axis=1)


def tiled(pictures: Sequence[NDArray[np.uint8]], across: int, gap: int) -> NDArray[np.uint8]:
    """Return pictures of one size, so many in a row, as one on white, with so many pixels between."""
    height, width, _ = pictures[0].shape
    down = -(-len(pictures) // across)
    whole = np.full((down * (height + gap) - gap, across * (width + gap) - gap, 3), 255, np.uint8)
    for place, picture in enumerate(pictures):
        top, left = place // across * (height + gap), place % across * (width + gap)
        whole[top : top + height, left : left + width] = picture
    return whole


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
