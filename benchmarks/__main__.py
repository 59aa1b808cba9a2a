"""`make bench`, or `python -m benchmarks`: measures all contenders, and writes tables, pictures and numbers."""

from __future__ import annotations

import argparse
import functools
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import pictures, tables
from benchmarks.contenders import CONTENDERS, Environment, chosen
from benchmarks.entrants import Place
from benchmarks.machine import Machine, describe, own_versions
from benchmarks.models import MODELS
from benchmarks.results import Results
from benchmarks.running import Plan, Run, say
from benchmarks.workloads import Sizes

ROOT = Path(__file__).parents[1]
FULL = Plan(
    rounds=7,
    sizes=Sizes(lognormal=1024, tokens_128=512, tokens_512=128, single=200),
    tuning=6,
    mixed_seconds=20.0,
    interactive_rate=10.0,
)
QUICK = Plan(
    rounds=3,
    sizes=Sizes(lognormal=128, tokens_128=48, tokens_512=12, single=24),
    tuning=2,
    mixed_seconds=3.0,
    interactive_rate=10.0,
)


def main() -> int:
    """Measure, write, and say where."""
    options = arguments()
    started = time.monotonic()
    plan = planned(options)
    try:
        contenders = chosen(options.device, options.quick, options.only, options.skip)
    except ValueError as error:
        print(f"benchmarks: error: {error}", file=sys.stderr)
        return 2
    machine = describe(options.device)
    names = options.models or (["all-MiniLM-L6-v2"] if options.quick else ["all-MiniLM-L6-v2", "bert-base"])
    date = datetime.now(UTC).date().isoformat()
    results = Results(machine, date, settings(options, plan), own_versions())
    folder = options.output or results_folder(machine, date, options.quick)
    for name in names:
        run = Run(MODELS[name], contenders, plan, functools.partial(place, options, machine))
        results.models.append(run.measure(options.cache))
        write(results, folder)  # after each model, so that a long run that is cut short leaves something
    print(tables.report(results))
    say(f"written to {folder} after {time.monotonic() - started:.0f} s")
    return 0


def arguments() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one model, few texts: minutes")
    parser.add_argument("--models", nargs="+", choices=MODELS, metavar="MODEL", help=f"of {', '.join(MODELS)}")
    listed = ", ".join(contender.name for contender in CONTENDERS)
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help=f"these, or their beginnings, of: {listed}"
    )
    parser.add_argument("--skip", nargs="+", default=[], metavar="NAME", help="leave these out")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rounds", type=int, help="how often each takes its turn")
    parser.add_argument("--scale", type=float, default=1.0, help="so many times as many texts")
    parser.add_argument("--clients", type=int, default=1, help="processes that send to bertstream in bulk")
    parser.add_argument("--mixed-seconds", type=float, help="how long a stream saturates the server, a round")
    parser.add_argument("--peers-python", type=Path, default=ROOT / ".venv-bench/bin/python")
    parser.add_argument("--infinity-python", type=Path, default=ROOT / ".venv-bench-infinity/bin/python")
    parser.add_argument("--cache", type=Path, default=ROOT / ".build/bench", help="for converted models")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="default: benchmarks/results/MACHINE-DATE")
    return parser.parse_args()


def planned(options: argparse.Namespace) -> Plan:
    """The plan, with what the options say otherwise."""
    plan = QUICK if options.quick else FULL
    return Plan(
        rounds=options.rounds or plan.rounds,
        sizes=plan.sizes.times(options.scale),
        tuning=plan.tuning,
        mixed_seconds=options.mixed_seconds or plan.mixed_seconds,
        interactive_rate=plan.interactive_rate,
    )


def settings(options: argparse.Namespace, plan: Plan) -> dict[str, object]:
    """What a reader must know to repeat it."""
    return {
        "mode": "quick" if options.quick else "full",
        "rounds": plan.rounds,
        "scale": options.scale,
        "device": options.device,
        "clients": options.clients,
        "mixed_seconds": plan.mixed_seconds,
    }


def place(options: argparse.Namespace, machine: Machine, directory: Path, work: Path, calibration: Path) -> Place:
    """Where contenders run."""
    pythons: dict[Environment, Path] = {
        "own": Path(sys.executable),
        "peers": options.peers_python,
        "infinity": options.infinity_python,
    }
    compiled = options.cache / "compiled"
    return Place(directory, work, compiled, options.device, machine.cores, options.clients, pythons, calibration)


def results_folder(machine: Machine, date: str, quick: bool) -> Path:
    """Quick runs are for the one who waits; they go where nothing is committed."""
    parent = ROOT / ".build/bench/results" if quick else ROOT / "benchmarks/results"
    return parent / f"{machine.slug}-{date}"


def write(results: Results, folder: Path) -> None:
    """The table, the pictures and the numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    results.save(folder / "results.json")
    (folder / "README.md").write_text(tables.report(results), encoding="utf-8")
    for model in results.models:
        (folder / f"{model.model}-bulk.svg").write_text(pictures.bulk_picture(model), encoding="utf-8")
        (folder / f"{model.model}-single.svg").write_text(pictures.single_picture(model), encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    sys.exit(main())
