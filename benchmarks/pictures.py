"""Bars as SVG: as many groups of them as there are workloads, a bar a contender, with the range of its rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from benchmarks.figures import percentiles
from benchmarks.results import ModelResults
from benchmarks.tables import BULK, rate

BAR, GAP, GROUP, LEFT, WIDTH, RIGHT = 16, 4, 40, 200, 460, 90
OURS, BOUNDS, OTHERS = "#1f6feb", "#8c959f", "#d4a72c"
TITLES = {"lognormal": "lognormal lengths", "tokens-128": "128 tokens each", "tokens-512": "512 tokens each"}


@dataclass(frozen=True, slots=True)
class Bar:
    """A value, and the range that it was measured in."""

    label: str
    value: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Group:
    """Bars to one scale."""

    title: str
    bars: Sequence[Bar]


def bulk_picture(model: ModelResults) -> str:
    """Texts a second on each workload."""
    groups = []
    for workload in BULK:
        found = [(name, model.bulk_of(name, workload)) for name in model.order]
        rates = [(name, rate(bulk)) for name, bulk in found if bulk]
        groups.append(Group(f"{TITLES[workload]}, texts/s", [Bar(n, r.median, r.least, r.most) for n, r in rates]))
    return picture(f"{model.model}: many texts (longer is better)", groups)


def single_picture(model: ModelResults) -> str:
    """Milliseconds for one text: the median, and the range up to the 99th percentile."""
    bars = []
    for name in model.order:
        if calls := model.calls_of(name, 1):
            found = percentiles(calls.latencies)
            bars.append(Bar(name, found.p50 * 1e3, found.p50 * 1e3, found.p99 * 1e3))
    title = f"{model.model}: one text at a time (shorter is better)"
    return picture(title, [Group("milliseconds, p50 and up to p99", bars)])


def picture(title: str, groups: Sequence[Group]) -> str:
    """An SVG file."""
    parts, top = [_text(8, 22, title, "title")], 32
    for group in groups:
        if group.bars:
            parts += _group(group, top)
            top += GROUP + len(group.bars) * (BAR + GAP)
    size = f'width="{LEFT + WIDTH + RIGHT}" height="{top + 8}" viewBox="0 0 {LEFT + WIDTH + RIGHT} {top + 8}"'
    style = (
        "text{font-family:Arial,Helvetica,sans-serif;font-size:12px;fill:#24292f}.title{font-size:15px;font-weight:bold}.group{font-weight:bold}"
        "@media(prefers-color-scheme:dark){text{fill:#e6edf3}}"
    )
    body = "\n".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<style>{style}</style>\n{body}\n</svg>\n'


def _group(group: Group, top: int) -> list[str]:
    scale = WIDTH / max(bar.most for bar in group.bars)
    parts = [_text(LEFT, top + 18, group.title, "group")]
    for number, bar in enumerate(group.bars):
        y, length = top + 26 + number * (BAR + GAP), bar.value * scale
        middle, low, high = y + BAR / 2, LEFT + bar.least * scale, LEFT + bar.most * scale
        parts += [
            _text(LEFT - 6, y + 12, bar.label, "", "end"),
            f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{_color(bar.label)}"/>',
            f'<path d="M{low:.1f} {middle}H{high:.1f}" stroke="#24292f" stroke-opacity="0.6" stroke-width="2"/>',
            _text(
                max(LEFT + length, high) + 5, y + 12, f"{bar.value:,.4g}" if bar.value < 1000 else f"{bar.value:,.0f}"
            ),
        ]
    return parts


def _color(label: str) -> str:
    if label.startswith(("floor", "engine")):
        return BOUNDS
    return OURS if label.startswith("bertstream") else OTHERS


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    shown = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}"{shown}>{escape(text)}</text>'
