"""What a run measures according to its options: how much, which models, which parts, and which contenders."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType

from benchmarks import goals, goals_gpu
from benchmarks.contenders import PARTS, Contender, Part, chosen
from benchmarks.duels import plan as duels
from benchmarks.models import ModelSpec
from benchmarks.processes import PATIENT, Patience
from benchmarks.rounds import Plan
from benchmarks.workloads import Sizes

USUAL = PARTS[:-1]  # frontends are measured only if asked for
FULL = Plan(
    rounds=5,
    sizes=Sizes(lognormal=512, tokens_128=256, tokens_512=64, single=100),
    tuning=6,
    mixed_seconds=10.0,
    interactive_rate=10.0,
    parts=USUAL,
)
QUICK = replace(
    FULL,
    rounds=3,
    sizes=Sizes(lognormal=96, tokens_128=32, tokens_512=8, single=24),
    tuning=2,
    mixed_seconds=2.0,
)
# A few seconds for each of our contenders in each round, at the speed that is expected of an H100 with bert-base.
GPU = Plan(
    rounds=5,
    sizes=Sizes(lognormal=131_072, tokens_128=32_768, tokens_512=8_192, single=400),
    tuning=3,
    mixed_seconds=8.0,
    interactive_rate=200.0,
    parts=USUAL,
    by_cost=False,
    peer_share=8,
    single_tokens=128,
)
GPU_QUICK = replace(GPU, rounds=3, sizes=GPU.sizes.times(0.25), tuning=2, mixed_seconds=2.0)
# For a GPU that is available for ten minutes: nothing may hang for long, and the run ends about two minutes early.
GOALS_SECONDS, GOALS_PATIENCE = 330.0, Patience(start=200.0, answer=60.0)
CORES_OF_CLIENT, MOST_CLIENTS = 3, 8


def planned(options: argparse.Namespace) -> Plan:
    """Return the plan for these options."""
    on_gpu = options.device == "cuda"
    plan = (GPU_QUICK if on_gpu else QUICK) if options.quick else (GPU if on_gpu else FULL)
    if on_gpu and options.goals:
        plan = replace(plan, bulk=plan.bulk[:1], sizes=replace(plan.sizes, tokens_512=0))
    return replace(
        plan,
        rounds=options.rounds or plan.rounds,
        sizes=plan.sizes.times(options.scale),
        mixed_seconds=options.mixed_seconds or plan.mixed_seconds,
        interactive_rate=options.rate or plan.interactive_rate,
    )


def judge(device: str) -> ModuleType:
    """Return the module with the goals of a device."""
    return goals_gpu if device == "cuda" else goals


def chosen_models(options: argparse.Namespace) -> Sequence[str]:
    """Return the names of the models to measure."""
    if options.models:
        return list(options.models)
    names: Sequence[str] = judge(options.device).MODELS
    return names[:1] if (options.quick or options.parts) and not options.goals else names


def parts(options: argparse.Namespace, model: ModelSpec) -> tuple[Part, ...]:
    """Return the parts to measure of a model; those of one with random weights add to those of the trained one."""
    if options.parts:
        return tuple(part for part in PARTS if part in options.parts)
    if options.goals:
        found: tuple[Part, ...] = judge(options.device).parts(model)
        return found
    return USUAL if model.real else ("bulk", "batch", "single")


def duel_parts(options: argparse.Namespace) -> tuple[str, ...]:
    """Return the parts to measure in duels, which are measured only if asked for."""
    return tuple(part for part in duels.PARTS if part in (options.parts or ()))


def contenders(options: argparse.Namespace, model: ModelSpec) -> list[Contender]:
    """Return the contenders to measure. Raises ValueError for unknown names."""
    measured, needed = parts(options, model), judge(options.device).needed
    found = chosen(options.device, options.quick, options.only, options.skip, measured)
    return [each for each in found if not options.goals or needed(each, measured)]


def clients(options: argparse.Namespace, cores: int) -> int:
    """Return how many processes send to each server in bulk: enough for a GPU, but one if the cores compute."""
    automatic = max(1, min(cores // CORES_OF_CLIENT, MOST_CLIENTS)) if options.device == "cuda" else 1
    return options.clients or automatic


def deadline(options: argparse.Namespace, started: float) -> float:
    """Return when the last round should have ended."""
    usual = GOALS_SECONDS if options.device == "cuda" and options.goals else 0.0
    limit = usual if options.seconds is None else options.seconds
    return started + limit if limit else math.inf


def patience(options: argparse.Namespace) -> Patience:
    """Return how long to wait for a process."""
    return GOALS_PATIENCE if options.device == "cuda" and options.goals else PATIENT
