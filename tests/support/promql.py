"""Evaluate the part of PromQL that our alerts and dashboard use, over samples in memory.

Source: https://prometheus.io/docs/prometheus/latest/querying.
"""

from __future__ import annotations

import datetime
import itertools
import operator
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import promql_parser

Labels: TypeAlias = frozenset[tuple[str, str]]
Vector: TypeAlias = dict[Labels, float]
Value: TypeAlias = float | Vector
STALE_SECONDS = 300.0
NAME = "__name__"

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
_ARITHMETIC: dict[str, Callable[[float, float], float]] = {"+": operator.add, "-": operator.sub, "*": operator.mul}
_SUMMARIES: dict[str, Callable[[list[float]], float]] = {
    "sum": sum,
    "max": max,
    "min": min,
    "count": len,
    "avg": lambda values: sum(values) / len(values),
}


@dataclass(frozen=True)
class Series:
    """The samples of one series, in order of their times."""

    labels: Labels  # with its name
    points: tuple[tuple[float, float], ...]  # (seconds, value)


def labels_of(name: str, labels: Mapping[str, str]) -> Labels:
    """Return the labels of a series, its name among them."""
    return frozenset({**labels, NAME: name}.items())


def selectors(expression: Any) -> Iterator[Any]:
    """Yield all selectors of an expression."""
    if type(expression).__name__ == "VectorSelector":
        yield expression
    for child in _children(expression):
        yield from selectors(child)


def label_lists(expression: Any) -> Iterator[list[str]]:
    """Yield the labels that an expression groups or matches by, each list as it is written."""
    modifier = getattr(expression, "modifier", None)
    if modifier is not None:
        yield list(getattr(modifier, "labels", None) or getattr(modifier.matching, "labels", None) or [])
    for child in _children(expression):
        yield from label_lists(child)


def evaluate(query: str, series: Sequence[Series], now: float) -> Value:
    """Return the value of a query at a time: a number, or a vector by labels."""
    return _Evaluation(series, now).value(promql_parser.parse(query))


def _children(expression: Any) -> Iterable[Any]:
    names = ("expr", "lhs", "rhs", "vector_selector", "param")
    yield from (child for name in names if (child := getattr(expression, name, None)) is not None)
    yield from getattr(expression, "args", ())


class _Evaluation:
    def __init__(self, series: Sequence[Series], now: float) -> None:
        self._series, self._now = series, now

    def value(self, expression: Any) -> Value:
        kind = type(expression).__name__
        evaluated: Value = getattr(self, f"_{kind}")(expression)
        return evaluated

    def _NumberLiteral(self, expression: Any) -> Value:  # noqa: N802 - as the parser's classes are named
        return float(expression.val)

    def _ParenExpr(self, expression: Any) -> Value:  # noqa: N802
        return self.value(expression.expr)

    def _VectorSelector(self, expression: Any) -> Value:  # noqa: N802
        found = self._ranges(expression, STALE_SECONDS)
        return {labels: points[-1][1] for labels, points in found.items()}

    def _Call(self, expression: Any) -> Value:  # noqa: N802
        name, args = expression.func.name, expression.args
        if name == "histogram_quantile":
            return _quantiles(_number(self.value(args[0])), _vector(self.value(args[1])))
        assert name in ("rate", "increase"), name
        found = self._ranges(args[0].vector_selector, args[0].range.total_seconds())
        seconds = args[0].range.total_seconds()
        rises = {
            _unnamed(labels): _increase(points, self._now - seconds, self._now)
            for labels, points in found.items()
            if len(points) > 1
        }
        return rises if name == "increase" else {labels: rise / seconds for labels, rise in rises.items()}

    def _AggregateExpr(self, expression: Any) -> Value:  # noqa: N802
        groups: defaultdict[Labels, list[float]] = defaultdict(list)
        for labels, value in _vector(self.value(expression.expr)).items():
            groups[_grouped(labels, expression.modifier)].append(value)
        summary = _SUMMARIES[str(expression.op)]
        return {labels: float(summary(values)) for labels, values in groups.items()}

    def _BinaryExpr(self, expression: Any) -> Value:  # noqa: N802
        op, left, right = str(expression.op), self.value(expression.lhs), self.value(expression.rhs)
        key = _matching(expression.modifier)
        if op in ("and", "or", "unless"):
            return _set(op, _vector(left), _vector(right), key)
        if isinstance(left, float) and isinstance(right, float):
            return _computed(op, left, right)
        pairs = list(_pairs(left, right, key))
        if op in _COMPARISONS:
            return {each: one for each, one, other in pairs if _COMPARISONS[op](one, other)}
        return {_unnamed(each): _computed(op, one, other) for each, one, other in pairs}

    def _ranges(self, selector: Any, seconds: float) -> dict[Labels, list[tuple[float, float]]]:
        """Return the points of each series that is selected, of so many seconds before the time; none are left out."""
        end = self._now - (selector.offset or datetime.timedelta()).total_seconds()
        found = {
            each.labels: [point for point in each.points if end - seconds < point[0] <= end]
            for each in self._series
            if dict(each.labels)[NAME] == selector.name and _selects(selector.matchers.matchers, each.labels)
        }
        return {labels: points for labels, points in found.items() if points}


def _increase(points: Sequence[tuple[float, float]], begin: float, end: float) -> float:
    """Return the rise of a counter, which begins at zero again where it falls, drawn out to the ends of the range.

    Where there are no samples near an end, it is drawn out by half of the time between two, and never below zero.
    """
    rise = sum(after if after < before else after - before for (_, before), (_, after) in itertools.pairwise(points))
    (first, value), last = points[0], points[-1][0]
    between = (last - first) / (len(points) - 1)
    before, after = (gap if gap <= 1.1 * between else between / 2 for gap in (first - begin, end - last))
    if rise > 0:
        before = min(before, (last - first) * value / rise)
    return rise * (1 + (before + after) / (last - first))


def _selects(matchers: Iterable[Any], labels: Labels) -> bool:
    values = dict(labels)
    for matcher in matchers:
        value, op = values.get(matcher.name, ""), str(matcher.op).rpartition(".")[2]
        same = re.fullmatch(matcher.value, value) is not None if op in ("Re", "NotRe") else value == matcher.value
        if same != (op in ("Equal", "Re")):
            return False
    return True


def _quantiles(part: float, buckets: Vector) -> Vector:
    """Return the quantile of each histogram, by linear interpolation within its bucket."""
    histograms: defaultdict[Labels, list[tuple[float, float]]] = defaultdict(list)
    for labels, count in buckets.items():
        bound = float(dict(labels)["le"])
        histograms[frozenset(each for each in labels if each[0] not in ("le", NAME))].append((bound, count))
    return {labels: _quantile(part, sorted(bounds)) for labels, bounds in histograms.items()}


def _quantile(part: float, bounds: list[tuple[float, float]]) -> float:
    wanted = part * bounds[-1][1]
    if not bounds[-1][1]:
        return float("nan")
    low, below = 0.0, 0.0
    for bound, count in bounds[:-1]:
        if count >= wanted:
            return low + (bound - low) * (wanted - below) / (count - below)
        low, below = bound, count
    return low


def _grouped(labels: Labels, modifier: Any) -> Labels:
    names = set(modifier.labels) if modifier is not None else set()
    without = modifier is not None and str(modifier.type).endswith("Without")
    return frozenset(each for each in labels if (each[0] in names) != without and each[0] != NAME)


def _matching(modifier: Any) -> Callable[[Labels], Labels]:
    """Return what two samples must have in common to be matched."""
    matching = None if modifier is None else modifier.matching
    if matching is None:
        return _unnamed
    names, only = set(matching.labels), str(matching.type).endswith("Include")
    return lambda labels: frozenset(each for each in labels if (each[0] in names) == only and each[0] != NAME)


def _pairs(left: Value, right: Value, key: Callable[[Labels], Labels]) -> Iterator[tuple[Labels, float, float]]:
    """Yield what is computed of two sides, with the labels that it keeps."""
    if isinstance(left, float):
        yield from ((each, left, value) for each, value in _vector(right).items())
    elif isinstance(right, float):
        yield from ((each, value, right) for each, value in left.items())
    else:
        others = {key(each): value for each, value in right.items()}
        assert len(others) == len(right), "several samples match one"
        yield from ((each, value, others[key(each)]) for each, value in left.items() if key(each) in others)


def _set(op: str, left: Vector, right: Vector, key: Callable[[Labels], Labels]) -> Vector:
    if op == "or":
        have = {key(each) for each in left}
        return {**left, **{each: value for each, value in right.items() if key(each) not in have}}
    others = {key(each) for each in right}
    return {each: value for each, value in left.items() if (key(each) in others) == (op == "and")}


def _computed(op: str, left: float, right: float) -> float:
    if op == "/":
        return left / right if right else float("nan") if not left else float("inf")
    return _ARITHMETIC[op](left, right)


def _unnamed(labels: Labels) -> Labels:
    return frozenset(each for each in labels if each[0] != NAME)


def _vector(value: Value) -> Vector:
    assert isinstance(value, dict), "a number where a vector is wanted"
    return value


def _number(value: Value) -> float:
    assert isinstance(value, float), "a vector where a number is wanted"
    return value
