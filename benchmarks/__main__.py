"""`make bench`, or `python -m benchmarks`: measures all contenders, and writes tables, pictures and numbers."""

from __future__ import annotations

import argparse
import functools
import os
import shlex
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import goals, pictures, tables
from benchmarks.contenders import CONTENDERS, PARTS, Contender, Environment, Part, chosen
from benchmarks.entrants import Place
from benchmarks.machine import Machine, describe, own_versions
from benchmarks.models import MODELS, ModelSpec
from benchmarks.results import Results
from benchmarks.running import Plan, Run, say
from benchmarks.workloads import Sizes

ROOT = Path(__file__).parents[1]
USUAL = PARTS[:-1]  # frontends are measured where they are asked for
FULL = Plan(
    rounds=5,
    sizes=Sizes(lognormal=512, tokens_128=256, tokens_512=64, single=100),
    tuning=6,
    mixed_seconds=10.0,
    interactive_rate=10.0,
    parts=USUAL,
)
QUICK = Plan(
    rounds=3,
    sizes=Sizes(lognormal=96, tokens_128=32, tokens_512=8, single=24),
    tuning=2,
    mixed_seconds=2.0,
    interactive_rate=10.0,
    parts=USUAL,
)


def main() -> int:
    """Measure, write, and say where."""
    options = arguments()
    started = time.monotonic()
    plan, names = planned(options), chosen_models(options)
    try:
        entering = {name: contenders(options, MODELS[name]) for name in names}
    except ValueError as error:
        print(f"benchmarks: error: {error}", file=sys.stderr)
        return 2
    machine = describe(options.device)
    date = datetime.now(UTC).date().isoformat()
    results = Results(machine, date, settings(options, plan), own_versions())
    folder = options.output or results_folder(machine, date, partial=is_partial(options))
    for name in names:
        own = replace(plan, parts=parts(options, MODELS[name]))
        run = Run(MODELS[name], entering[name], own, functools.partial(place, options, machine))
        results.models.append(run.measure(options.cache))
        write(results, folder)  # after each model, so that a long run that is cut short leaves something
    print(tables.report(results))
    say(f"written to {folder} after {time.monotonic() - started:.0f} s")
    return 0


def arguments() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one model, few texts: minutes")
    parser.add_argument("--goals", action="store_true", help="only what the table of goals is made of")
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}; by default all but the last"
    )
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
    parser.add_argument("--mixed-seconds", type=float, help="of calls, of streams, and of both, in each round")
    parser.add_argument("--rate", type=float, help="calls a second beside streams")
    parser.add_argument("--serve", default="", metavar="FLAGS", help="more flags for every bertstream server")
    parser.add_argument("--peers-python", type=Path, default=ROOT / ".venv-bench/bin/python")
    parser.add_argument("--infinity-python", type=Path, default=ROOT / ".venv-bench-infinity/bin/python")
    parser.add_argument("--cache", type=Path, default=ROOT / ".build/bench", help="for converted models")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="default: benchmarks/results/MACHINE-DATE")
    return parser.parse_args()


def planned(options: argparse.Namespace) -> Plan:
    """The plan, with what the options say otherwise."""
    plan = QUICK if options.quick else FULL
    return replace(
        plan,
        rounds=options.rounds or plan.rounds,
        sizes=plan.sizes.times(options.scale),
        mixed_seconds=options.mixed_seconds or plan.mixed_seconds,
        interactive_rate=options.rate or plan.interactive_rate,
    )


def chosen_models(options: argparse.Namespace) -> list[str]:
    """Names."""
    if options.models:
        return list(options.models)
    small = (options.quick or options.parts) and not options.goals
    return [goals.SPEED_MODEL] if small else [goals.SPEED_MODEL, goals.LATENCY_MODEL]


def parts(options: argparse.Namespace, model: ModelSpec) -> tuple[Part, ...]:
    """What is measured of this model. Of one with random weights, what the other does not say already."""
    if options.parts:
        return tuple(options.parts)
    if options.goals:
        return ("bulk", "mixed", "quality") if model.real else ("single",)
    return USUAL if model.real else ("bulk", "single")


def contenders(options: argparse.Namespace, model: ModelSpec) -> list[Contender]:
    """Who is measured. Raises ValueError for names that are nobody's."""
    its = parts(options, model)
    found = chosen(options.device, options.quick, options.only, options.skip, its)
    return [each for each in found if not options.goals or goals.needed(each, its)]


def settings(options: argparse.Namespace, plan: Plan) -> dict[str, object]:
    """What a reader must know to repeat it."""
    return {
        "command": shlex.join(["make", "bench", f"BENCH_ARGS={shlex.join(sys.argv[1:])}"][: 3 if sys.argv[1:] else 2]),
        "mode": "quick" if options.quick else "full",
        "rounds": plan.rounds,
        "scale": options.scale,
        "device": options.device,
        "clients": options.clients,
        "mixed_seconds": plan.mixed_seconds,
        "rate": options.rate,
        "serve": options.serve,
    }


def place(options: argparse.Namespace, machine: Machine, directory: Path, work: Path, calibration: Path) -> Place:
    """Where contenders run."""
    pythons: dict[Environment, Path] = {
        "own": Path(sys.executable),
        "peers": options.peers_python,
        "infinity": options.infinity_python,
    }
    compiled, flags = options.cache / "compiled", tuple(shlex.split(options.serve))
    return Place(directory, work, compiled, options.device, machine.cores, options.clients, flags, pythons, calibration)


def is_partial(options: argparse.Namespace) -> bool:
    """Whether something is missing that a full run has, or servers do not run by their defaults."""
    return any((options.quick, options.goals, options.parts, options.only, options.skip, options.models, options.serve))


def results_folder(machine: Machine, date: str, partial: bool) -> Path:
    """Runs of a part are for the one who waits; they go where nothing is committed."""
    parent = ROOT / ".build/bench/results" if partial else ROOT / "benchmarks/results"
    return parent / f"{machine.slug}-{date}"


def write(results: Results, folder: Path) -> None:
    """The table, the pictures and the numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    results.save(folder / "results.json")
    report = tables.report(results)
    (folder / "README.md").write_text(report, encoding="utf-8")
    for model in results.models:
        for name, picture in (("bulk", pictures.bulk_picture(model)), ("single", pictures.single_picture(model))):
            if f"{model.model}-{name}.svg" in report:
                (folder / f"{model.model}-{name}.svg").write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    sys.exit(main())
