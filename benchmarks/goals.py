"""The goals of bertstream on two cores, and whether a run reached them, by its own figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.contenders import BASELINE, CONTENDERS, Contender, Part, precision
from benchmarks.figures import percentiles
from benchmarks.models import ModelSpec
from benchmarks.results import Bulk, ModelResults, Results

ABOUT = "Set for 2 cores. Ratios of medians; in brackets, of single rounds."
SPEED_MODEL, LATENCY_MODEL = "all-MiniLM-L6-v2", "bert-base"
MODELS = (SPEED_MODEL, LATENCY_MODEL)
EQUAL = ("tokens-128", "tokens-512")
OURS = {"float32": "bertstream", "int8": "bertstream int8"}
ENGINES = {"float32": "engine", "int8": "engine int8"}
ONE_TEXT = ("bertstream", "bertstream, 1 worker")  # the faster of both counts, since a user can choose it

TIMES_BASELINE, TIMES_BEST, TIMES_INT8, LEAST_COSINE = 2.0, 1.1, 1.2, 0.998
OVERHEAD, WAIT, STREAM_SHARE = 0.10, 3.0, 0.90


@dataclass(frozen=True, slots=True)
class Goal:
    """A goal, or a figure to compare with goals."""

    what: str
    aim: str  # empty if the figure is not a goal
    measured: str  # empty if a figure that it needs is missing
    reached: bool = False
    why: str = ""  # why it is missing, if that is known

    @property
    def outcome(self) -> str:
        """The outcome in words."""
        if not self.measured:
            return f"not measured: {self.why}" if self.why else "not measured"
        if not self.aim:
            return ""
        return "reached" if self.reached else "**not reached**"


@dataclass(frozen=True, slots=True)
class Ratio:
    """The ratio of two medians, and the ratios of the same two figures in each round."""

    value: float
    rounds: Sequence[float]

    def __str__(self) -> str:
        by_round = f" ({min(self.rounds):.2f} to {max(self.rounds):.2f})" if len(self.rounds) > 1 else ""
        return f"{self.value:.2f}{by_round}"


def parts(model: ModelSpec) -> tuple[Part, ...]:
    """Return the parts that goals need of a model: only the latency of one with random weights."""
    return ("bulk", "mixed", "quality") if model.real else ("single",)


def needed(contender: Contender, parts: Sequence[Part]) -> bool:
    """Return whether any goal needs the contender in these parts."""
    if set(parts).isdisjoint({"bulk", "mixed", "quality"}):
        return precision(contender, "cpu") == "float32" and (contender.peer or contender.name in ONE_TEXT)
    ours = contender.name in (*OURS.values(), *ENGINES.values())
    return ours or (contender.peer and precision(contender, "cpu") in OURS)


def goals(results: Results) -> list[Goal]:
    """Return all goals."""
    fast, slow = model_of(results, SPEED_MODEL), model_of(results, LATENCY_MODEL)
    return [
        beside_baseline(fast),
        *(beside_best(fast, workload, "float32", TIMES_BEST) for workload in EQUAL),
        *(beside_best(fast, workload, "int8", TIMES_INT8) for workload in ("lognormal", *EQUAL)),
        quality(fast),
        one_text(slow),
        *(overhead(fast, kind) for kind in OURS),
        *(wait(fast, name) for name in OURS.values()),
        *(stream_share(fast, name) for name in OURS.values()),
    ]


def model_of(results: Results, name: str) -> ModelResults:
    """Return the figures of a model, which are empty if it was not measured."""
    return results.models.get(name, ModelResults(name, name == SPEED_MODEL, {}))


def beside_baseline(model: ModelResults) -> Goal:
    """Compare texts per second with those of sentence-transformers."""
    ratio = of_speeds(model.bulk_of(OURS["float32"], "lognormal"), model.bulk_of(BASELINE, "lognormal"))
    what = f"{model.model}, lognormal, float32, through gRPC: times {BASELINE}"
    return Goal(what, f"≥ {TIMES_BASELINE:g}", str(ratio or ""), ratio is not None and ratio.value >= TIMES_BASELINE)


def beside_best(model: ModelResults, workload: str, kind: str, aim: float) -> Goal:
    """Compare texts per second with those of the fastest peer in the same precision."""
    best = fastest(model, workload, peers(kind))
    ratio = of_speeds(model.bulk_of(OURS[kind], workload), model.bulk_of(best, workload))
    measured = f"{ratio} {best}" if ratio else ""
    what = f"{model.model}, {workload}, {kind}, through gRPC: times the fastest other in {kind}"
    return Goal(what, f"≥ {aim:g}", measured, ratio is not None and ratio.value >= aim)


def quality(model: ModelResults) -> Goal:
    """Judge the least cosine of int8 to float32."""
    found = model.quality.get(OURS["int8"])
    measured = f"{found.least_cosine:.5f}" if found else ""
    what = f"{model.model}, int8: least cosine to float32"
    return Goal(what, f"≥ {LEAST_COSINE:g}", measured, found is not None and found.least_cosine >= LEAST_COSINE)


def one_text(model: ModelResults) -> Goal:
    """Compare the latency of one text with that of the fastest peer."""
    ours, best = soonest(model, ONE_TEXT), soonest(model, peers("float32"))
    what = f"{model.model}, one text, float32, through gRPC: p50 as a share of the fastest other's"
    if ours is None or best is None:
        return Goal(what, "≤ 1", "")
    (own, own_p50), (other, other_p50) = ours, best
    measured = f"{own_p50 / other_p50:.2f}: {own} {own_p50 * 1e3:.1f} ms, {other} {other_p50 * 1e3:.1f} ms"
    return Goal(what, "≤ 1", measured, own_p50 <= other_p50)


def overhead(model: ModelResults, kind: str) -> Goal:
    """Judge how much of the engine's texts per second is lost on the way through gRPC."""
    ratio = of_speeds(model.bulk_of(OURS[kind], "lognormal"), model.bulk_of(ENGINES[kind], "lognormal"))
    what = f"{model.model}, lognormal, {kind}: texts/s that gRPC, tokenizer and IPC take of the engine's"
    lost = 1 - ratio.value if ratio else 0.0
    return Goal(what, f"≤ {OVERHEAD:.0%}", f"{lost:.1%}" if ratio else "", ratio is not None and lost <= OVERHEAD)


def wait(model: ModelResults, name: str) -> Goal:
    """Judge the p99 of calls beside streams, as a multiple of a batch's compute time."""
    found = model.mixed.get(name)
    what = f"{model.model}, {name}, one text a call beside streams: p99 in batches' compute time"
    if found is None or not found.latencies or not found.batches:
        return Goal(what, f"≤ {WAIT:g}", "")
    p99, batch = percentiles(found.latencies).p99, median(found.batches)
    measured = f"{p99 / batch:.2f}: {p99 * 1e3:.0f} ms of {len(found.latencies)} calls, {batch * 1e3:.0f} ms a batch"
    return Goal(what, f"≤ {WAIT:g}", measured, p99 <= WAIT * batch)


def stream_share(model: ModelResults, name: str) -> Goal:
    """Judge the share of their texts per second that streams keep beside calls."""
    found = model.mixed.get(name)
    what = f"{model.model}, {name}: what streams keep of their texts/s beside calls"
    if found is None or not found.alone or not found.beside:
        return Goal(what, f"≥ {STREAM_SHARE:.0%}", "")
    share = median(found.beside) / median(found.alone)
    measured = f"{share:.0%}, with {found.rate:g} calls/s"
    return Goal(what, f"≥ {STREAM_SHARE:.0%}", measured, share >= STREAM_SHARE)


def peers(kind: str) -> list[str]:
    """Return the names of all peers that compute in this precision."""
    return [each.name for each in CONTENDERS if each.peer and precision(each, "cpu") == kind]


def fastest(model: ModelResults, workload: str, names: Iterable[str]) -> str:
    """Return the name of the fastest contender of those that were measured, or an empty string."""
    seconds = {name: median(bulk.seconds) for name in names if (bulk := model.bulk_of(name, workload))}
    return min(seconds, key=lambda name: seconds[name], default="")


def soonest(model: ModelResults, names: Iterable[str]) -> tuple[str, float] | None:
    """Return the contender with the shortest median latency, and its seconds, or None."""
    found = [(name, percentiles(calls.latencies).p50) for name in names if (calls := model.calls_of(name))]
    return min(found, key=lambda pair: pair[1], default=None)


def of_speeds(ours: Bulk | None, theirs: Bulk | None) -> Ratio | None:
    """Return how many times as fast ours is, also for each round in which both took their turn."""
    if ours is None or theirs is None:
        return None
    by_round = [other / own for own, other in zip(ours.seconds, theirs.seconds, strict=False)]
    return Ratio(median(theirs.seconds) / median(ours.seconds), by_round)
