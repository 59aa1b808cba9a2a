"""The goals of bertstream on a GPU such as an H100, whether a run reached them, and figures to compare with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from benchmarks.contenders import BASELINE, Contender, Part
from benchmarks.figures import percentiles, spread
from benchmarks.goals import LATENCY_MODEL, SPEED_MODEL, Goal, model_of, of_speeds
from benchmarks.models import ModelSpec
from benchmarks.results import ModelResults, Results
from benchmarks.usage import ROLES

ABOUT = "Set for an H100 and 16 cores. Medians of rounds, and half of their range; what has no aim is there to compare."
MODELS = (LATENCY_MODEL, SPEED_MODEL)  # the goals' model first, in case there is no time for both
OURS = {"float16": "bertstream", "fp8": "bertstream fp8"}
ENGINES = {"float16": "engine, 256 texts", "fp8": "engine fp8, 256 texts"}
FLOOR = "floor, 256 texts"
OTHERS = (BASELINE, "transformers sdpa")

SERVED = {"float16": 42_000, "fp8": 50_000}  # lognormal texts per second, through gRPC
ALONE = {"fp8": 25_000}  # texts of 128 tokens per second, by the engine alone
ONE_TEXT_SECONDS, TIMES_FLOOR = 1.5e-3, 1.3


def parts(model: ModelSpec) -> tuple[Part, ...]:
    """Return the parts that goals need of a model: only the quality of one with trained weights."""
    return ("quality",) if model.real else ("bulk", "batch", "single")


def needed(contender: Contender, parts: Sequence[Part]) -> bool:
    """Return whether any goal needs the contender in these parts, or is compared with it there."""
    names = (*OURS.values(), *(() if set(parts) == {"quality"} else (*ENGINES.values(), FLOOR, *OTHERS)))
    return contender.name in names


def goals(results: Results) -> list[Goal]:
    """Return all goals, and the figures to compare them with."""
    fast, real = model_of(results, LATENCY_MODEL), model_of(results, SPEED_MODEL)
    return [
        *(served(fast, kind, aim, results) for kind, aim in SERVED.items()),
        one_text(fast),
        beside_floor(fast),
        *(alone(fast, kind, aim) for kind, aim in ALONE.items()),
        *(other(fast, name) for name in OTHERS),
        *(quality(real, kind) for kind in OURS),
        *(processors(fast, name, results.machine.cores) for name in fast.processor if name in OURS.values()),
    ]


def served(model: ModelResults, kind: str, aim: float, results: Results) -> Goal:
    """Judge the texts per second through gRPC, as the clients see them."""
    what = f"{model.model}, lognormal, {kind}, through gRPC: texts/s"
    where = f", {results.machine.cores} cores, {results.settings.get('clients', '?')} clients"
    return at_least(what, aim, model, OURS[kind], "lognormal", where)


def alone(model: ModelResults, kind: str, aim: float) -> Goal:
    """Judge the texts per second of the engine alone, from tokens to vectors."""
    what = f"{model.model}, 128 tokens, {kind}, the engine alone, 256 texts a batch: texts/s"
    return at_least(what, aim, model, ENGINES[kind], "tokens-128")


def at_least(what: str, aim: float, model: ModelResults, name: str, workload: str, where: str = "") -> Goal:
    """Judge the texts per second of one of our contenders."""
    if not (measured := speed(model, name, workload)):
        return missing(what, f"≥ {aim:,.0f}", model, name)
    return Goal(what, f"≥ {aim:,.0f}", f"{measured[1]}{where}", measured[0] >= aim)


def one_text(model: ModelResults) -> Goal:
    """Judge the latency of one text."""
    what, aim = f"{model.model}, one text of 128 tokens, float16, through gRPC: p50", f"≤ {ONE_TEXT_SECONDS * 1e3:g} ms"
    calls = model.calls_of(OURS["float16"])
    if calls is None:
        return missing(what, aim, model, OURS["float16"])
    found = percentiles(calls.latencies)
    measured = f"{found.p50 * 1e3:.2f} ms; p99 {found.p99 * 1e3:.2f} ms of {len(calls.latencies)} calls"
    return Goal(what, aim, measured, found.p50 <= ONE_TEXT_SECONDS)


def beside_floor(model: ModelResults) -> Goal:
    """Judge the engine's time as a multiple of that of its matrix products."""
    what = f"{model.model}, 256 texts of 128 tokens, float16, the engine alone: times its matrix products' time"
    ours, floor = model.bulk_of(ENGINES["float16"], "tokens-128"), model.bulk_of(FLOOR, "tokens-128")
    ratio = of_speeds(floor, ours)
    if ratio is None or floor is None:
        return missing(what, f"≤ {TIMES_FLOOR:g}", model, ENGINES["float16"] if ours is None else FLOOR)
    batch = 256 / floor.texts * 1e3 * median(floor.seconds)
    return Goal(what, f"≤ {TIMES_FLOOR:g}", f"{ratio}; those take {batch:.1f} ms", ratio.value <= TIMES_FLOOR)


def other(model: ModelResults, name: str) -> Goal:
    """Return a peer's texts per second, and ours as a multiple of them."""
    what, measured = f"{model.model}, lognormal, float16: texts/s of {name}", speed(model, name, "lognormal")
    if not measured:
        return missing(what, "", model, name)
    ours = speed(model, OURS["float16"], "lognormal")
    return Goal(what, "", measured[1] + (f"; bertstream {ours[0] / measured[0]:.1f} times that" if ours else ""))


def quality(model: ModelResults, kind: str) -> Goal:
    """Return the cosines to float32."""
    what, found = f"{model.model}, {kind}: least cosine to float32", model.quality.get(OURS[kind])
    if found is None:
        return missing(what, "", model, OURS[kind])
    return Goal(what, "", f"{found.least_cosine:.5f}; mean {found.mean_cosine:.5f}, ranks {found.rank_correlation:.5f}")


def processors(model: ModelResults, name: str, cores: int) -> Goal:
    """Return the busy cores of each role, which tell what else than the GPU may be the limit."""
    bulk, spent = model.bulk_of(name, "lognormal"), model.processor[name].seconds
    taken = sum(bulk.seconds) if bulk else math.inf
    busy = [f"{role} {spent.get(role, 0.0) / taken:.1f}" for role in ROLES]
    what = f"{model.model}, lognormal, {name}: cores that are busy"
    return Goal(what, "", f"{', '.join(busy)}; of {cores}")


def speed(model: ModelResults, name: str, workload: str) -> tuple[float, str] | None:
    """Return the median of texts per second, as a number and in words, or None."""
    bulk = model.bulk_of(name, workload)
    if bulk is None:
        return None
    found = spread(bulk.rates)
    return found.median, f"{found.median:,.0f} ± {found.half:.0%}"


def missing(what: str, aim: str, model: ModelResults, name: str) -> Goal:
    """Return a goal that lacks a figure of this contender, and why."""
    return Goal(what, aim, "", why=f"{name}: {model.left_out[name]}" if name in model.left_out else "")
