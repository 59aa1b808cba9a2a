"""Converts character offsets to the units of other languages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.tokenization import ragged
from bertstream.server.core.tokenization.values import OffsetUnit


def convert_offsets(
    offsets: NDArray[np.int32], of: NDArray[np.signedinteger[Any]], texts: Sequence[str], unit: OffsetUnit
) -> NDArray[np.int32]:
    """Convert offsets in code points to `unit`: [T, 2] -> [T, 2].

    Token i is from texts[of[i]] or, where of[i] < 0, from none.
    """
    if unit == "code_points" or all(map(str.isascii, texts)):
        return offsets
    before = _units_before("".join(texts), unit)  # [code points + 1]
    first = ragged.first_indexes(np.fromiter(map(len, texts), np.int64, len(texts)))[of][:, None]  # [T, 1]
    converted = before[first + offsets] - before[first]
    return np.where(of[:, None] < 0, offsets, converted).astype(np.int32)


def _units_before(text: str, unit: OffsetUnit) -> NDArray[np.int64]:
    code_points = np.frombuffer(text.encode("utf-32-le"), "<u4")
    limits = (0xFFFF,) if unit == "utf16" else (0x7F, 0x7FF, 0xFFFF)
    widths = np.ones(len(code_points) + 1, np.int8)
    widths[0] = 0
    for limit in limits:
        widths[1:] += code_points > limit
    return np.cumsum(widths, dtype=np.int64)
