"""Measure all contenders, and write a report, pictures and all figures: `make bench`, or `python -m benchmarks`."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from benchmarks import pictures, plans, quiet, tables
from benchmarks.contenders import PARTS, names
from benchmarks.drawing import NotDrawn
from benchmarks.duels.plan import PARTS as DUEL_PARTS
from benchmarks.duels.results import DuelResults
from benchmarks.duels.running import Duels
from benchmarks.entrants import Place
from benchmarks.machine import Machine, describe, own_versions
from benchmarks.models import MODELS
from benchmarks.results import ModelResults, Results
from benchmarks.rounds import Plan, Run, say
from bertstream.workers.compile.checkpoints import CheckpointError
from bertstream.workers.native import processor
from bertstream.workers.native.processor import ProcessorError

ROOT = Path(__file__).parents[1]
BUILT = ROOT / ".build/bench"  # converted models, kept between runs, and results


def main() -> int:
    """Run the benchmarks, write the results, and print where they are."""
    options, started = arguments(), time.monotonic()
    try:
        entering = {name: plans.contenders(options, MODELS[name]) for name in plans.chosen_models(options)}
        os.environ.update(processor.environment())  # of all that is measured
        machine = describe(options.device)
        machine = replace(machine, busy=quiet.busy_share() if options.busy else quiet.wait(say))
    except (ValueError, ProcessorError, quiet.NotQuiet) as error:
        return failed(error)
    plan, now = plans.planned(options), datetime.now(UTC)
    results = Results(machine, now.date().isoformat(), settings(options, plan, machine), own_versions())
    folder: Path = options.output or BUILT / "results" / f"{machine.slug}-{now:%Y-%m-%d-%H%M}"
    try:
        for name, contenders in entering.items():
            if not contenders:
                continue
            model_plan = replace(plan, parts=plans.parts(options, MODELS[name]))
            place_of, keep = partial(place, options, machine), partial(keep_results, results, folder)
            Run(MODELS[name], contenders, model_plan, place_of, keep, plans.deadline(options, started)).measure(BUILT)
        measure_duels(options, machine, plan, results, folder)
    except CheckpointError as error:
        return failed(error)
    try:
        drawn = pictures.draw(results, folder, python_of_peers(options))
    except NotDrawn as why:
        drawn = {}
        say(f"no pictures: {why}")
    print(write(results, folder, drawn))
    say(f"written to {folder} after {time.monotonic() - started:.0f} s")
    return 0


def measure_duels(options: argparse.Namespace, machine: Machine, plan: Plan, results: Results, folder: Path) -> None:
    """Measure the parts that are measured in duels, if any was asked for."""
    if not (parts := plans.duel_parts(options)):
        return
    for name in plans.chosen_models(options):
        where = place(options, machine, BUILT, BUILT / "made" / name, Path())

        def keep(found: DuelResults, name: str = name) -> None:
            results.duels[name] = found
            write(results, folder, {})

        Duels(MODELS[name], where, BUILT, plan.rounds, options.scale, keep).measure(parts)


def failed(error: Exception) -> int:
    """Print an error as one line, and return the exit code."""
    print(f"benchmarks: error: {error}", file=sys.stderr)
    return 2


def keep_results(results: Results, folder: Path, model: ModelResults) -> None:
    """Write the results of a model so far, so that a long run that is cut short leaves something."""
    results.models[model.model] = model
    write(results, folder, {})


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="measure one model with few texts, in minutes")
    parser.add_argument("--goals", action="store_true", help="measure only what the table of goals needs")
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=(*PARTS, *DUEL_PARTS),
        metavar="PART",
        help=f"any of {', '.join((*PARTS, *DUEL_PARTS))}; default: all before {PARTS[-1]}",
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, metavar="MODEL", help=f"any of {', '.join(MODELS)}")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help=f"names, or their beginnings, of: {', '.join(names())}"
    )
    parser.add_argument("--skip", nargs="+", default=[], metavar="NAME", help="leave these out")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--busy",
        action="store_true",
        help="measure beside what else the machine does, without waiting",
    )
    parser.add_argument("--rounds", type=int, help="how many turns each contender takes")
    parser.add_argument("--scale", type=float, default=1.0, help="multiply the numbers of texts by this factor")
    parser.add_argument(
        "--clients",
        type=int,
        default=0,
        help="processes that send to bertstream in bulk (default: 1, on cuda one for 3 cores)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        help="start no round that would end later; 0 for no limit (default: a limit for the goals on cuda only)",
    )
    parser.add_argument("--mixed-seconds", type=float, help="seconds of calls, of streams, and of both, in each round")
    parser.add_argument("--rate", type=float, help="calls per second beside streams")
    parser.add_argument("--serve", default="", metavar="FLAGS", help="more flags for every bertstream server")
    parser.add_argument(
        "--peers",
        choices=["installed", "here"],
        default="installed",
        help="run peers in the environments that `make bench` installs, or in this one, as far as it has them",
    )
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="default: .build/bench/results/MACHINE-DATE-TIME")
    return parser.parse_args()


def settings(options: argparse.Namespace, plan: Plan, machine: Machine) -> dict[str, object]:
    """Return the settings that a reader needs to repeat the run."""
    return {
        "command": shlex.join(["make", "bench", f"BENCH_ARGS={shlex.join(sys.argv[1:])}"][: 3 if sys.argv[1:] else 2]),
        "mode": "quick" if options.quick else "full",
        "rounds": plan.rounds,
        "scale": options.scale,
        "device": options.device,
        "clients": plans.clients(options, machine.cores),
        "one_text": f"{plan.single_tokens} tokens" if plan.single_tokens else "lognormal",
        "mixed_seconds": plan.mixed_seconds,
        "rate": options.rate,
        "serve": options.serve,
    }


def python_of_peers(options: argparse.Namespace) -> Path:
    """Return the Python whose environment has the peers and matplotlib."""
    return Path(sys.executable) if options.peers == "here" else ROOT / ".venv-bench/bin/python"


def place(options: argparse.Namespace, machine: Machine, directory: Path, work: Path, calibration: Path) -> Place:
    """Return the place where contenders run."""
    own, infinity = Path(sys.executable), ROOT / ".venv-bench-infinity/bin/python"
    return Place(
        directory,
        work,
        compiled=BUILT / "compiled",
        device=options.device,
        cores=machine.cores,
        clients=plans.clients(options, machine.cores),
        flags=tuple(shlex.split(options.serve)),
        pythons={
            "own": own,
            "peers": python_of_peers(options),
            "infinity": own if options.peers == "here" else infinity,
        },
        calibration=calibration,
        patience=plans.patience(options),
    )


def write(results: Results, folder: Path, drawn: Mapping[str, str]) -> str:
    """Write the report and all measurements, and return the report."""
    folder.mkdir(parents=True, exist_ok=True)
    results.save(folder / "results.json")
    report = tables.report(results, drawn)
    (folder / "README.md").write_text(report, encoding="utf-8")
    return report


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    sys.exit(main())
