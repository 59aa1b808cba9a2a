"""Texts, sized and cut into messages."""

from __future__ import annotations

import pytest

from bertstream.client._texts import MessageLimits, cut, prepare


def test_cutting_keeps_kinds_apart_and_limits() -> None:
    texts = ["a", "b", ["w"], "c" * 90, "d" * 90, [1], "e"]
    groups = list(cut(enumerate(prepare(text, 0) for text in texts), MessageLimits(3, 150)))
    assert sorted(index for group in groups for index in group.indexes) == list(range(7))
    assert [group.indexes for group in groups if group.kind == "texts"] == [[0, 1, 3], [4, 6]]


@pytest.mark.parametrize("text", ["", "abc", "é世😀" * 50, ("ab", "é"), ["a", "世界", ""], [1, 2, 2**31 - 1], []])
def test_sizes_are_never_too_small(text: object) -> None:
    prepared = prepare(text, 0)
    for times in (1, 7):
        ((group),) = cut(enumerate([prepared] * times), MessageLimits(7, 1 << 20))
        assert group.batch().ByteSize() <= times * prepared.size + 16
