"""Offer a server more than it can do, and write a table, a picture and all figures: `make bench-overload`."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import models
from benchmarks.drawing import NotDrawn
from benchmarks.machine import Machine, describe
from benchmarks.markdown import table
from benchmarks.overload import fairness, picture
from benchmarks.overload.scenarios import SCENARIOS, OverloadPlan, Result, measure
from benchmarks.processes import Failed
from benchmarks.rounds import say

ROOT = Path(__file__).parents[2]
BUILT = ROOT / ".build/bench"


def main() -> int:
    """Run the scenarios, write the results, and print where they are."""
    options = arguments()
    machine = describe("cpu")
    plan = OverloadPlan(tuple(sorted(options.factors)), options.seconds, options.deadline)
    checkpoint = models.directory(models.MODELS[options.model], BUILT)
    chosen = [scenario for scenario in SCENARIOS if scenario.name in options.scenarios]
    try:
        flags = shlex.split(options.serve)
        cache = BUILT / "made" / options.model
        results = [measure(scenario, plan, checkpoint, cache, flags) for scenario in chosen]
        shares = [fairness.measure(plan, checkpoint, cache, flags)] if fairness.NAME in options.scenarios else []
    except Failed as failed:
        print(f"benchmarks.overload: error: {failed}", file=sys.stderr)
        return 2
    folder: Path = options.output or BUILT / "results" / f"overload-{machine.slug}-{datetime.now(UTC):%Y-%m-%d-%H%M}"
    folder.mkdir(parents=True, exist_ok=True)
    figures = {"scenarios": [asdict(each) for each in results], "shares": [asdict(each) for each in shares]}
    (folder / "overload.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
    try:
        picture.draw(results, folder / "overload.svg", options.drawing)
    except NotDrawn as why:
        say(f"no picture: {why}")
    text = report(machine, plan, options.model, results, shares)
    (folder / "overload.md").write_text(text, encoding="utf-8")
    print(text)
    say(f"written to {folder}")
    return 0


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    names = [*(scenario.name for scenario in SCENARIOS), fairness.NAME]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=__doc__)
    parser.add_argument("--scenarios", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument(
        "--factors", nargs="+", type=float, default=[0.5, 1, 2, 5, 10], help="loads, as multiples of the capacity"
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="seconds of each load")
    parser.add_argument("--deadline", type=float, default=2.0, help="deadline of each call, in seconds")
    parser.add_argument("--model", choices=models.MODELS, default="all-MiniLM-L6-v2")
    parser.add_argument("--serve", default="", metavar="FLAGS", help="more flags for the server")
    parser.add_argument(
        "--drawing", type=Path, default=ROOT / ".venv-bench/bin/python", help="a Python with matplotlib"
    )
    parser.add_argument("--output", type=Path, metavar="FOLDER")
    return parser.parse_args()


def report(
    machine: Machine, plan: OverloadPlan, model: str, results: Sequence[Result], shares: Sequence[fairness.Shares] = ()
) -> str:
    """Return the figures as Markdown."""
    command = shlex.join(["python", "-m", "benchmarks.overload", *sys.argv[1:]])
    parts = [
        "# Overload",
        f"- {machine.processor}, {machine.cores} cores; {', '.join(machine.instructions)}; load before the run"
        f" {machine.load:.2f}\n- {model}; unary calls of one text with a deadline of {plan.deadline:g} s, at random"
        f" times, {plan.seconds:g} s of each load\n- `{command}`",
        *(f"## {result.title}\n\n{summary(result)}\n\n{figures(result)}" for result in results),
        *(f"## {fairness.TITLE}\n\n{fairness.figures(each)}" for each in shares),
    ]
    return "\n\n".join(parts) + "\n"


def summary(result: Result) -> str:
    """Return a sentence about a scenario."""
    return (
        f"Capacity {result.capacity:.1f} calls/s, {result.capacity_tokens:.0f} tokens/s; one call at a time"
        f" {result.idle_p50 * 1e3:.1f} ms at p50; after the greatest load normal within {result.settled:.2f} s; memory"
        f" before {result.memory_before >> 20} MiB."
    )


def figures(result: Result) -> str:
    """Return a table with a row for each load."""
    good = ("answered in time, of the capacity's tokens", "calls/s answered in time")
    header = (
        "offered",
        "calls/s",
        *good,
        "p50, s",
        "p99, s",
        "refused in, ms",
        "cores used",
        "memory, MiB",
        "statuses",
    )
    rows = [
        (
            f"{each.factor:g} ×",
            f"{each.offered:.0f}",
            f"{each.good_tokens / result.capacity_tokens:.0%}",
            f"{each.goodput:.1f}",
            f"{each.answered_p50:.2f}",
            f"{each.answered_p99:.2f}",
            f"{each.refused_p50 * 1e3:.0f}",
            ", ".join(f"{role} {used:.2f}" for role, used in each.processor.items() if used >= 0.005),
            f"{each.memory >> 20}",
            ", ".join(f"{name} {count}" for name, count in sorted(each.statuses.items())),
        )
        for each in result.outcomes
    ]
    return table(header, rows)


if __name__ == "__main__":
    sys.exit(main())
