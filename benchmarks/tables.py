"""The results as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.contenders import BASELINE
from benchmarks.figures import Spread, percentiles, spread
from benchmarks.results import Bulk, Calls, Mixed, ModelResults, Results

BULK = ("lognormal", "tokens-128", "tokens-512")
NONE = "–"


def report(results: Results) -> str:
    """All of it."""
    parts = [heading(results), *(part for model in results.models for part in model_parts(model))]
    return "\n\n".join(parts) + "\n"


def heading(results: Results) -> str:
    """What it was measured on, and how."""
    machine, settings = results.machine, results.settings
    where = f"{machine.processor}, {machine.cores} cores" + (f", {machine.gpu}" if machine.gpu else "")
    facts = [
        f"{where}; {machine.memory_gib:.0f} GiB; {', '.join(machine.instructions) or 'no vector instructions'}",
        f"{machine.system}, Python {machine.python}; load before the run {machine.load:.2f}",
        f"{_pairs(results.versions)}",
        f"{settings['rounds']} rounds, contenders taking turns; settings: {_pairs(settings)}",
    ]
    if machine.load > 0.5:
        facts.append("**The machine was not quiet: these numbers mean little.**")
    return f"# Benchmarks, {results.date}\n\n" + "\n".join(f"- {fact}" for fact in facts)


def model_parts(model: ModelResults) -> Iterable[str]:
    """The tables of one checkpoint, those that have rows."""
    shape = model.shape
    weights = "" if model.real else ", random weights"
    yield (
        f"## {model.model}\n\n{shape['num_hidden_layers']} layers, {shape['hidden_size']} and "
        f"{shape['intermediate_size']} wide{weights}. Texts a second: median, half of the range, ratio to {BASELINE}. "
        f"One text: milliseconds."
    )
    yield f"![Texts a second]({model.model}-bulk.svg)\n\n![One text at a time]({model.model}-single.svg)"
    yield main_table(model)
    names = {each.contender for each in model.calls if each.concurrency > 1}
    if calls := [each for each in model.calls if each.contender in names]:
        yield calls_table(sorted(calls, key=lambda each: (each.contender, each.concurrency)))
    if model.mixed:
        yield mixed_table(model.mixed)
    if model.left_out:
        yield table(("left out", "why"), [(each.contender, each.reason) for each in model.left_out])
    yield choices_line(model)


def main_table(model: ModelResults) -> str:
    """A line a contender: speed on each workload, latency of one text, memory, quality."""
    header = ("", *BULK, "tokens/s, lognormal", "p50", "p95", "p99", "memory, MiB", "least cosine", "rank corr.")
    measured = {each.contender for each in model.bulk} | {each.contender for each in model.calls}
    rows = [_main_row(model, name) for name in model.order if name in measured]
    return table(header, rows)


def _main_row(model: ModelResults, name: str) -> tuple[str, ...]:
    bulk = [_speed(model.bulk_of(name, workload), model.bulk_of(BASELINE, workload)) for workload in BULK]
    lognormal, single = model.bulk_of(name, "lognormal"), model.calls_of(name, 1)
    tokens = f"{lognormal.tokens / spread(lognormal.seconds).median:,.0f}" if lognormal else NONE
    memory, quality = model.memory.get(name), model.quality_of(name)
    return (
        name,
        *bulk,
        tokens,
        *(_milliseconds(single) if single else (NONE,) * 3),
        f"{memory.proportional / 2**20:,.0f}" if memory else NONE,
        f"{quality.least_cosine:.5f}" if quality else NONE,
        f"{quality.rank_correlation:.5f}" if quality else NONE,
    )


def rate(bulk: Bulk) -> Spread:
    """Texts a second."""
    return spread([bulk.texts / seconds for seconds in bulk.seconds])


def _speed(bulk: Bulk | None, baseline: Bulk | None) -> str:
    if bulk is None:
        return NONE
    found = rate(bulk)
    ratio = f" ({found.median / rate(baseline).median:.2f} ×)" if baseline else ""
    return f"{found.median:,.1f} ± {found.half:.0%}{ratio}"


def _milliseconds(calls: Calls) -> tuple[str, str, str]:
    found = percentiles(calls.latencies)
    return f"{found.p50 * 1e3:.1f}", f"{found.p95 * 1e3:.1f}", f"{found.p99 * 1e3:.1f}"


def calls_table(calls: Sequence[Calls]) -> str:
    """Latencies by concurrency."""
    rows = []
    for each in calls:
        per_second = len(each.latencies) / sum(each.seconds)
        rows.append((each.contender, str(each.concurrency), *_milliseconds(each), f"{per_second:,.1f}"))
    return table(("one text a call", "calls at once", "p50, ms", "p95", "p99", "calls/s"), rows)


def mixed_table(mixed: Sequence[Mixed]) -> str:
    """Calls beside a stream that saturates the server."""
    header = (
        "calls beside a stream",
        "calls/s",
        "p50, ms",
        "p95",
        "p99",
        "a batch computes, ms",
        "p99 / batch",
        "stream",
    )
    return table(header, [_mixed_row(each) for each in mixed if each.latencies])


def _mixed_row(mixed: Mixed) -> tuple[str, ...]:
    found, batch = percentiles(mixed.latencies), spread(mixed.batches).median
    share = spread(mixed.beside).median / spread(mixed.alone).median
    times = [f"{seconds * 1e3:.1f}" for seconds in (found.p50, found.p95, found.p99, batch)]
    ratio = f"{found.p99 / batch:.1f} ×" if batch else NONE
    return (
        mixed.contender,
        f"{mixed.rate:g}",
        *times,
        ratio,
        f"{share:.0%} of {spread(mixed.alone).median:,.1f} texts/s",
    )


def choices_line(model: ModelResults) -> str:
    """How each was fed, and its versions."""
    lines = []
    for name, versions in model.versions.items():
        fed = [
            f"{each.workload} in batches of {each.choice.batch_size}"
            + (f" on {each.choice.streams} streams" if each.choice.streams > 1 else "")
            for each in model.bulk
            if each.contender == name and not name.startswith(("bertstream", "engine", "floor", "infinity"))
        ]
        lines.append(f"- {name}: {_pairs(versions)}" + (f"; {', '.join(fed)}" if fed else ""))
    return "\n".join(lines)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """As Markdown has it; numbers to the right."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    rule = "|---|" + "---:|" * (len(header) - 1)
    return "\n".join(["| " + " | ".join(header) + " |", rule, *lines])


def _pairs(values: dict[str, object] | dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
