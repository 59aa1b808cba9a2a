"""The results of duels as tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.duels.plan import AIM
from benchmarks.duels.results import DuelResult, DuelResults, Side
from benchmarks.figures import spread
from benchmarks.markdown import NONE, table


def duel_parts(model: str, results: DuelResults) -> Iterable[str]:
    """Yield the tables of one shape that have rows."""
    yield f"## {model}'s shape, random weights: beside transformers and sentence-transformers"
    if results.duels:
        header = ("", "unit", "bertstream, a second", "transformers, a second", "ratio", "by processor time", "")
        yield table(header, [row(each) for each in results.duels])
    if results.starts:
        starts = [
            (each.name, f"{spread(each.seconds).median:.2f}", f"{spread(each.processor).median:.2f}")
            for each in results.starts.values()
        ]
        yield table(("until ready", "seconds", "processor seconds"), starts)
    if results.memory:
        rows = [(name, f"{size / 2**20:,.0f}") for name, size in results.memory.items()]
        yield table(("memory", "MiB"), rows)
    if results.left_out:
        yield table(("not measured", "why"), results.left_out.items())


def row(result: DuelResult) -> tuple[str, ...]:
    """Return the line of a duel."""
    name = f"{result.part}: {result.name}"
    if result.why or not result.ours.seconds or not result.theirs.seconds:
        return (name, result.unit, NONE, NONE, NONE, NONE, f"not measured: {result.why}")
    ratio = spread(result.theirs.seconds).median / spread(result.ours.seconds).median
    by_processor = spread(result.theirs.processor).median / spread(result.ours.processor).median
    outcome = "reached" if ratio >= AIM else f"**below {AIM:g} ×**"
    ours, theirs = speed(result, result.ours), speed(result, result.theirs)
    return (name, result.unit, ours, theirs, f"{ratio:.2f} ×", f"{by_processor:.2f} ×", outcome)


def speed(result: DuelResult, side: Side) -> str:
    """Return the units a second, and half of the range of the rounds."""
    found = spread([result.amount / seconds for seconds in side.seconds])
    return f"{found.median:,.1f} ± {found.half:.0%}"
