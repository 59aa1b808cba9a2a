"""What a run measures, by its options: how much, of which models, which parts, and who."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType

from benchmarks import goals, goals_gpu
from benchmarks.contenders import PARTS, Contender, Part, chosen
from benchmarks.models import ModelSpec
from benchmarks.processes import PATIENT, Patience
from benchmarks.running import Plan
from benchmarks.workloads import Sizes

USUAL = PARTS[:-1]  # frontends are measured where they are asked for
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
# Some seconds for each of ours in each round, at what an H100 is thought to do of bert-base.
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
# Who has a GPU for ten minutes waits for nothing that hangs, and has all figures some two minutes before they are over.
GOALS_SECONDS, GOALS_PATIENCE = 330.0, Patience(start=200.0, answer=60.0)
CORES_OF_CLIENT, MOST_CLIENTS = 3, 8


def planned(options: argparse.Namespace) -> Plan:
    """The plan, with what the options say otherwise."""
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
    """Whose goals these are."""
    return goals_gpu if device == "cuda" else goals


def chosen_models(options: argparse.Namespace) -> Sequence[str]:
    """Names."""
    if options.models:
        return list(options.models)
    names: Sequence[str] = judge(options.device).MODELS
    return names[:1] if (options.quick or options.parts) and not options.goals else names


def parts(options: argparse.Namespace, model: ModelSpec) -> tuple[Part, ...]:
    """What is measured of this model. Of one with random weights, what the other does not say already."""
    if options.parts:
        return tuple(options.parts)
    if options.goals:
        found: tuple[Part, ...] = judge(options.device).parts(model)
        return found
    return USUAL if model.real else ("bulk", "batch", "single")


def contenders(options: argparse.Namespace, model: ModelSpec) -> list[Contender]:
    """Who is measured. Raises ValueError for names that are nobody's."""
    its, needed = parts(options, model), judge(options.device).needed
    found = chosen(options.device, options.quick, options.only, options.skip, its)
    return [each for each in found if not options.goals or needed(each, its)]


def clients(options: argparse.Namespace, cores: int) -> int:
    """Processes that send to each server in bulk: as many as a GPU's server needs, and one where the cores compute."""
    automatic = max(1, min(cores // CORES_OF_CLIENT, MOST_CLIENTS)) if options.device == "cuda" else 1
    return options.clients or automatic


def deadline(options: argparse.Namespace, started: float) -> float:
    """When the last round should have ended."""
    usual = GOALS_SECONDS if options.device == "cuda" and options.goals else 0.0
    limit = usual if options.seconds is None else options.seconds
    return started + limit if limit else math.inf


def patience(options: argparse.Namespace) -> Patience:
    """How long anyone is waited for."""
    return GOALS_PATIENCE if options.device == "cuda" and options.goals else PATIENT
