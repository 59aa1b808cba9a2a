"""`make chaos`: provokes faults in a server under load, and prints what became of the calls, a line a fault.

Exit status 1 where an answer was wrong, a call was lost, or something else was not as promised.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.chaos.counting import Row, row, table
from tests.chaos.faults import FAULTS, OWN_SERVER, UNDER_LOAD, Fault
from tests.chaos.provoking import provoked
from tests.chaos.scene import NotAsPromised, Scene, scene

ROOT = Path(__file__).parents[2]
BUILT = ROOT / ".build/chaos"


def main(arguments: Sequence[str] | None = None) -> int:
    """Provoke, and print."""
    options = parser().parse_args(arguments)
    if options.list:
        width = max(len(fault.name) for fault in FAULTS)
        print("\n".join(f"{fault.name:<{width}}  {fault.meaning}" for fault in FAULTS))
        return 0
    BUILT.mkdir(parents=True, exist_ok=True)
    chosen = [each for each in FAULTS if _is_chosen(each, options)]
    rows = run(chosen, options.rounds, options.seconds, options.processes)
    print(table(rows))
    for each in rows:
        for complaint in each.complaints:
            print(f"{each.fault}: {complaint}")
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in rows], indent=1), encoding="utf-8")
    return 0 if all(each.good for each in rows) else 1


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    made = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    names = [fault.name for fault in FAULTS]
    made.add_argument("--list", action="store_true", help="name the faults, and end")
    made.add_argument("--only", nargs="+", choices=names, metavar="FAULT", help="by name")
    made.add_argument("--quick", action="store_true", help="only those that take a few seconds")
    made.add_argument("--rounds", type=int, default=1, help="how often each fault is provoked (default 1)")
    made.add_argument("--seconds", type=float, default=3.0, help="that callers go on after each fault (default 3)")
    made.add_argument("--processes", type=int, default=2, help="of callers, each with a thread a kind (default 2)")
    made.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    return made


def run(chosen: Sequence[Fault], rounds: int, seconds: float, processes: int) -> list[Row]:
    """Provoke faults in turn, and count."""
    rows: list[Row] = []
    with scene(BUILT, processes) as running:
        try:
            rows.append(_told(provoked(Fault("none", _nothing), running, seconds)))
            for _ in range(rounds):
                rows += [_told(provoked(fault, running, seconds)) for fault in chosen if fault in UNDER_LOAD]
        finally:
            since, wrong = time.monotonic(), running.load.stop()
        rows.append(_end(running, since, wrong))
        rows += [_told(_alone(fault, running)) for fault in chosen if fault in OWN_SERVER]
    return rows


def _nothing(scene: Scene) -> None:
    """Nothing goes wrong."""
    time.sleep(3)


def _alone(fault: Fault, scene: Scene) -> Row:
    """Provoke one that needs no callers."""
    began, broken = time.monotonic(), ""
    try:
        fault.provoke(scene)
    except (NotAsPromised, AssertionError) as error:
        broken = str(error) or "an assertion failed"
    ended = time.monotonic()
    counted = row(fault.name, began, ended, ended, [])
    counted.broken = broken
    return counted


def _end(scene: Scene, since: float, wrong: Sequence[str]) -> Row:
    """Count the last calls, and say where a process of callers did not end well."""
    last = row("the end", since, since, time.monotonic(), scene.load.records)
    last.broken = "; ".join(wrong)
    return last


def _told(counted: Row) -> Row:
    """Say at once how it went, since all of it takes minutes."""
    state = "ok" if counted.good else f"FAILED {counted.broken} {counted.complaints[:3]}"
    print(f"{counted.fault}: {counted.seconds:.1f} s, {counted.calls} calls, {state}", file=sys.stderr, flush=True)
    return counted


def _is_chosen(fault: Fault, options: argparse.Namespace) -> bool:
    return fault.name in options.only if options.only else fault.quick or not options.quick


if __name__ == "__main__":
    sys.exit(main())
