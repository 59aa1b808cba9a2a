"""`make soak`: asks a server for all kinds of answers, checks each, and judges whether its processes grow.

Writes samples.csv, soak.json and, where there is matplotlib, soak.svg. Exit status 1 where a process grew or was
replaced, or an answer was wrong or lost.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from bertstream.server.config import ServeConfig
from tests.chaos.counting import RIGHT
from tests.chaos.scene import Scene, scene
from tests.soak import sampling
from tests.soak.judging import Sample, Verdict, judge, table

ROOT = Path(__file__).parents[2]
SAMPLES = 400  # in all, or one a second where that is more


def main() -> int:
    """Ask, judge, and say where the figures are."""
    options = parser().parse_args()
    folder: Path = options.output or ROOT / f".build/soak/{datetime.now(UTC):%Y-%m-%d-%H%M}"
    folder.mkdir(parents=True, exist_ok=True)
    with scene(ROOT / ".build/chaos", options.processes, batch_seconds=ServeConfig().batch_seconds) as running:
        samples = sampled(running, 60 * options.minutes)
        wrong = running.load.stop()
        wrong += [f"{each.kind}: {each.outcome} {each.why}" for each in running.load.records if each.outcome != RIGHT]
        calls = len(running.load.records)
    sampling.write(samples, folder / "samples.csv")
    verdicts = judge(samples, options.bytes_a_call)
    written = {"calls": calls, "wrong": wrong, "verdicts": [asdict(each) for each in verdicts]}
    (folder / "soak.json").write_text(json.dumps(written, indent=1), encoding="utf-8")
    draw(folder, options.drawing)
    print(f"{calls} calls in {options.minutes:g} min, {len(wrong)} of them wrong or lost", *wrong[:10], sep="\n")
    print(table(verdicts), f"written to {folder}", sep="\n")
    return 0 if good(verdicts, wrong) else 1


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    made = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    made.add_argument("--minutes", type=float, default=60.0, help="(default 60)")
    made.add_argument("--processes", type=int, default=2, help="of callers, each with a thread a kind (default 2)")
    made.add_argument("--bytes-a-call", type=float, default=256.0, help="that a process may grow by (default 256)")
    made.add_argument("--drawing", type=Path, default=ROOT / ".venv-bench/bin/python", help="a Python with matplotlib")
    made.add_argument("--output", type=Path, metavar="FOLDER")
    return made


def sampled(running: Scene, seconds: float) -> list[Sample]:
    """Look at the processes again and again, for so long."""
    began, samples = time.monotonic(), list[Sample]()
    while (now := time.monotonic() - began) < seconds:
        samples += sampling.take(running.server, now, len(running.load.records))
        time.sleep(max(1.0, seconds / SAMPLES))
    return samples


def good(verdicts: list[Verdict], wrong: list[str]) -> bool:
    """Return whether all processes were flat, and all answers right."""
    return not wrong and not any(each.fault for each in verdicts)


def draw(folder: Path, python: Path) -> None:
    """Draw the picture, or say why there is none."""
    if not python.is_file():
        print("no picture: there is no .venv-bench, which `make bench` installs", file=sys.stderr)
        return
    command = [str(python), "-m", "tests.soak.picture", str(folder / "samples.csv"), str(folder / "soak.svg")]
    environment = {**os.environ, "MPLCONFIGDIR": str(ROOT / ".build/matplotlib")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"no picture: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
