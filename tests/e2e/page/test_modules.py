"""The page's own functions that need no page: numbers, the ring of ten minutes, curves, quoting."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.e2e.page.conftest import Site
from tests.support.browser import viewing

Evaluate = Callable[[str, str], Any]


@pytest.fixture(scope="module")
def evaluate(browser: Browser, site: Site) -> Iterator[Evaluate]:
    """Return a function from a module and an expression, in which `m` is the module, to its value."""
    with viewing(browser, site.url) as view:
        view.go()
        yield lambda module, expression: view.evaluate(
            f"async () => {{ const m = await import('/static/js/{module}.js'); return {expression}; }}"
        )


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("[0, 0.04, 9.96, 99.94, 100, 1234.5, 99999, 1e5, 12345678, null].map(m.amount)",
         ["0", "0.0", "10.0", "99.9", "100", "1,235", "99,999", "100k", "12.3M", "–"]),
        ("[0, 2.5e-5, 0.00123, 0.0999, 0.25, 1.5, 75, null].map(m.seconds)",
         ["0 ms", "25 µs", "1.2 ms", "99.9 ms", "250 ms", "1.50 s", "1 min", "–"]),
        ("[0, 1023, 1024, 10 << 20, 1.5 * 2 ** 30, null].map(m.bytes)",
         ["0 B", "1,023 B", "1.0 KiB", "10 MiB", "1.5 GiB", "–"]),
        ("[5, 65, 3700, 100000, 200000].map(m.age)", ["5 s", "1 min", "1 h 1 min", "27 h 46 min", "2 d 7 h"]),
        ("[0, -0.0001, 0.5, 1].map((value) => m.percent(value, 1))", ["0.0%", "0.0%", "50.0%", "100.0%"]),
        ("m.durationSeconds('0.0031s') + m.durationSeconds(undefined)", 0.0031),
    ],
)  # fmt: skip
def test_numbers_are_written_for_people(evaluate: Evaluate, expression: str, expected: Any) -> None:
    assert evaluate("format", expression) == expected


def history(pushes: str) -> str:
    return f"(() => {{ const h = new m.History(['a'], 4); {pushes} return h.series('a'); }})()"


@pytest.mark.parametrize(
    ("pushes", "expected"),
    [
        ("", []),
        ("h.push(1, {a: 5}); h.push(2, {a: 6});", [[1, 5], [0, 6]]),
        ("for (let i = 1; i < 7; i += 1) h.push(i, {a: i});", [[3, 3], [2, 4], [1, 5], [0, 6]]),
        ("h.push(1, {a: 1}); h.push(1, {a: 2}); h.push(0, {a: 3});", [[0, 1]]),  # a clock that goes back
        ("h.push(1, {a: 1}); h.push(20, {a: 2});", [[19, 1], [18, None], [0, 2]]),  # a pause is a gap
        ("h.push(1, {a: 1}); h.push(2, {});", [[1, 1], [0, None]]),
        ("h.push(1, {a: 1}); h.push(700, {a: 2});", [[0, 2]]),  # what is older than ten minutes
    ],
)
def test_ten_minutes_are_kept(evaluate: Evaluate, pushes: str, expected: Any) -> None:
    found = evaluate("live/history", history(pushes))
    assert [[before, None if value != value else value] for before, value in found] == expected


def test_a_scale_has_a_round_top(evaluate: Evaluate) -> None:
    assert evaluate("live/chart", "[0, 0.7, 1, 1.01, 23, 99, 101].map((value) => m.roundTop(value))") == [
        1, 0.8, 1, 1.5, 30, 100, 150,
    ]  # fmt: skip
    gibibyte = 1 << 30
    tops = evaluate("live/chart", f"[{gibibyte}, {3.7 * gibibyte}].map((value) => m.roundTop(value, 1024))")
    assert tops == [gibibyte, 4 * gibibyte]


def test_a_curve_breaks_at_gaps(evaluate: Evaluate) -> None:
    points = "[[4, 0], [3, 1], [2, NaN], [1, 2], [0, 2]]"
    assert evaluate("live/chart", f"m.curve({points}, 2)") == "M596 100L597 50M599 0L600 0"
    assert evaluate("live/chart", f"m.area({points}, 2)") == (
        "M596 100L597 50L597 100L596 100ZM599 0L600 0L600 100L599 100Z"
    )


@pytest.mark.parametrize("word", ["plain", "", "two words", "it's", '$HOME `x` "y" \\', "-x", "line\nbreak", "a=b,c"])
def test_words_are_quoted_for_a_shell(evaluate: Evaluate, word: str) -> None:
    quoted = evaluate("playground/commands", f"m.quoted({word!r})")
    assert shlex.split(quoted) == [word]


def test_methods_are_ranked_and_the_rest_is_one(evaluate: Evaluate) -> None:
    assert evaluate("live/numbers", "m.ranked({a: 1, b: 3, c: 0, d: 2, e: 1}, 3)") == [
        ["b", 3],
        ["d", 2],
        ["others", 2],
    ]
