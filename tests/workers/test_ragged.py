from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bertstream.workers.ragged import pieces_of, rows_of, starts_of


@given(st.lists(st.integers(0, 9)))
def test_starts(lengths: list[int]) -> None:
    assert starts_of(np.array(lengths, np.int32)).tolist() == [sum(lengths[:i]) for i in range(len(lengths))]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 6))))
def test_rows(texts: list[tuple[int, int]]) -> None:
    starts, lengths = (np.array([text[i] for text in texts], np.int64) for i in (0, 1))
    expected = [row for start, length in texts for row in range(start, start + length)]
    assert rows_of(starts, lengths).tolist() == expected


@given(st.lists(st.integers(0, 9)), st.integers(1, 20))
def test_pieces(sizes: list[int], limit: int) -> None:
    pieces = pieces_of(np.array(sizes, np.int32), limit)
    assert [row for first, last in pieces for row in range(first, last)] == list(range(len(sizes)))
    for first, last in pieces:
        assert last == first + 1 or sum(sizes[first:last]) <= limit
        assert last == len(sizes) or sum(sizes[first : last + 1]) > limit


def test_sums_beyond_32_bits() -> None:
    lengths = np.array([2**31 - 1, 2**31 - 1, 1], np.int32)
    assert starts_of(lengths).tolist() == [0, 2**31 - 1, 2**32 - 2]
