from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertstream.server.core.generation.text import GrowingText, StopStrings


class Writes:
    """A writer whose token ids are indexes of given pieces; the rest of the text comes at the end."""

    def __init__(self, pieces: Sequence[str], rest: str = "") -> None:
        self._pieces = pieces
        self._rest = rest

    def push(self, token_id: int) -> str:
        return self._pieces[token_id]

    def finish(self) -> str:
        return self._rest


def grown(pieces: Sequence[str], stops: Sequence[str], rest: str = "") -> tuple[list[str], int | None]:
    """Return the text of each token and of the end, and the index of the token that completed a stop string."""
    text = GrowingText(Writes(pieces, rest), StopStrings(stops))
    given, stopped = [], None
    for token in range(len(pieces)):
        given.append(text.push(token))
        if stopped is None and text.stopped:
            stopped = token
    given.append(text.finish())
    if stopped is None and text.stopped:
        stopped = len(pieces)
    return given, stopped


def expected(text: str, stops: Sequence[str]) -> str:
    """Cut the text by definition: character by character, until it ends with a stop string."""
    for end in range(1, len(text) + 1):
        lengths = [len(stop) for stop in stops if text[:end].endswith(stop)]
        if lengths:
            return text[: end - max(lengths)]
    return text


TEXT = st.text("ab.", max_size=6)


@given(st.lists(TEXT, max_size=12), st.lists(st.text("ab.", min_size=1, max_size=4), max_size=3), TEXT)
def test_however_it_is_cut_the_text_stops_before_the_first_stop_string(
    pieces: list[str], stops: list[str], rest: str
) -> None:
    given, stopped = grown(pieces, stops, rest)
    whole = "".join([*pieces, rest])
    assert "".join(given) == expected(whole, stops)
    assert (stopped is not None) == (expected(whole, stops) != whole)
    if stopped is not None and stopped < len(pieces):
        before = "".join(pieces[:stopped])
        assert expected(before, stops) == before  # no earlier token completed one
        after = "".join(pieces[: stopped + 1])
        assert expected(after, stops) != after


@given(st.lists(TEXT, max_size=12), st.lists(st.text("ab.", min_size=1, max_size=4), max_size=3))
def test_no_more_is_held_back_than_may_be_a_stop_string(pieces: list[str], stops: list[str]) -> None:
    text = GrowingText(Writes(pieces), StopStrings(stops))
    given = ""
    for token in range(len(pieces)):
        given += text.push(token)
        if text.stopped:
            return
        held = "".join(pieces[: token + 1])[len(given) :]
        assert held == "" or any(stop.startswith(held) and stop != held for stop in stops)


@pytest.mark.parametrize(
    ("pieces", "stops", "given", "stopped"),
    [
        (["a", "b"], [], ["a", "b", ""], None),
        (["a ", "b. c"], ["."], ["a ", "b", ""], 1),
        (["a\n", "x", "\n", "\nb"], ["\n\n"], ["a", "\nx", "", "", ""], 3),  # held back, given, held back, found
        (["a\n"], ["\n\n"], ["a", "\n"], None),  # given at the end
        (["ab", "cd"], ["bcd", "c"], ["a", "b", ""], 1),  # the one that ends first
        (["xab"], ["b", "ab"], ["x", ""], 0),  # of two that end together, the longer one
        (["", "stop", ""], ["stop"], ["", "", "", ""], 1),
    ],
)
def test_examples(pieces: list[str], stops: list[str], given: list[str], stopped: int | None) -> None:
    assert grown(pieces, stops) == (given, stopped)


def test_a_stop_string_may_come_with_the_end() -> None:
    assert grown(["a"], ["\ufffd"], rest="\ufffd") == (["a", ""], 1)
