"""The results as tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean

from benchmarks import goals, goals_gpu
from benchmarks.contenders import BASELINE
from benchmarks.duels.report import duel_parts
from benchmarks.figures import percentiles, spread
from benchmarks.goals import Goal
from benchmarks.machine import Machine
from benchmarks.markdown import NONE, table
from benchmarks.peers import Choice
from benchmarks.quiet import MOST_BUSY
from benchmarks.results import Bulk, Calls, Mixed, ModelResults, Results
from benchmarks.usage import ROLES
from benchmarks.workloads import BULK


def report(results: Results, pictures: Mapping[str, str] | None = None) -> str:
    """Return the report, with the pictures' titles by their files' names."""
    judge = goals_gpu if results.machine.gpu else goals
    parts = [heading(results), *(f"![{title}]({name})" for name, title in (pictures or {}).items())]
    parts += [part for model in results.models.values() for part in model_parts(model)]
    parts += [part for name, duels in results.duels.items() for part in duel_parts(name, duels)]
    parts += [goals_table(judge.goals(results), judge.ABOUT)] if results.models or not results.duels else []
    return "\n\n".join(parts) + "\n"


def heading(results: Results) -> str:
    """Return the heading, with the machine and the settings."""
    machine, settings = results.machine, results.settings
    where = f"{machine.processor}, {machine.cores} cores" + (f", {gpu(machine)}" if machine.gpu else "")
    kind = f"{machine.kind}, forced" if machine.forced else machine.kind
    said = {name: value for name, value in settings.items() if name not in ("command", "rounds") and value}
    facts = [
        f"{where}; {machine.memory_gib:.0f} GiB; {', '.join(machine.instructions) or 'no vector instructions'}",
        f"kind of processor: {kind}",
        f"{machine.system}, Python {machine.python}; before the run others used {machine.busy:.0%} of the processors, "
        f"and the load was {machine.load:.2f}",
        f"{_pairs(results.versions)}",
        f"{settings['rounds']} rounds, contenders taking turns; {_pairs(said)}",
        f"`{settings['command']}`",
    ]
    if machine.forced:
        facts.append(
            "**The processor has more instructions than bertstream and torch were allowed; who computes without torch "
            "may have used them.**"
        )
    if machine.busy > MOST_BUSY:
        facts.append("**The machine was not quiet: these numbers mean little.**")
    return f"# Benchmarks, {results.date}\n\n" + "\n".join(f"- {fact}" for fact in facts)


def gpu(machine: Machine) -> str:
    """Return the GPU's name, with its driver and CUDA."""
    by = [f"{name} {known}" for name, known in (("driver", machine.driver), ("CUDA", machine.cuda)) if known]
    return f"{machine.gpu} ({', '.join(by)})" if by else machine.gpu


def model_parts(model: ModelResults) -> Iterable[str]:
    """Yield the tables of one checkpoint that have rows."""
    shape = model.shape
    weights = "" if model.real else ", random weights"
    yield (
        f"## {model.model}\n\n{shape['num_hidden_layers']} layers, {shape['hidden_size']} and "
        f"{shape['intermediate_size']} wide{weights}. Texts a second: median, half of the range, ratio to {BASELINE}. "
        f"One text: milliseconds."
    )
    yield main_table(model)
    if several := {number: calls for number, calls in sorted(model.calls.items()) if number > 1}:
        yield calls_table(model, several)
    if model.mixed:
        yield mixed_table(model.mixed)
        yield where_table(model.mixed)
    if model.processor:
        yield processor_table(model)
    if ended := [(name, why) for name, why in model.left_out.items() if model.measured(name)]:
        yield table(("ended early", "why"), ended)
    yield choices_line(model)
    yield "Seconds: " + ", ".join(f"{part} {took:.0f}" for part, took in model.took.items() if took >= 0.5)


def main_table(model: ModelResults) -> str:
    """Return a table with one row per contender: speed on each workload, latency of one text, memory, quality."""
    header = ("", *BULK, "tokens/s, lognormal", "p50", "p95", "p99", "memory, MiB", "least cosine", "rank corr.")
    rows = [_main_row(model, name) for name in model.order]
    return table(header, [(*row, *[NONE] * (len(header) - len(row))) for row in rows if row])


def _main_row(model: ModelResults, name: str) -> tuple[str, ...]:
    if not model.measured(name):
        return (name, f"did not run: {model.left_out[name]}") if name in model.left_out else ()
    bulk = [_speed(model.bulk_of(name, workload), model.bulk_of(BASELINE, workload)) for workload in BULK]
    lognormal, single = model.bulk_of(name, "lognormal"), model.calls_of(name)
    tokens = f"{lognormal.tokens / spread(lognormal.seconds).median:,.0f}" if lognormal else NONE
    memory, quality = model.memory.get(name), model.quality.get(name)
    return (
        name,
        *bulk,
        tokens,
        *(_milliseconds(single) if single else (NONE,) * 3),
        f"{memory / 2**20:,.0f}" if memory else NONE,
        f"{quality.least_cosine:.5f}" if quality else NONE,
        f"{quality.rank_correlation:.5f}" if quality else NONE,
    )


def _speed(bulk: Bulk | None, baseline: Bulk | None) -> str:
    if bulk is None:
        return NONE
    found = spread(bulk.rates)
    ratio = f" ({found.median / spread(baseline.rates).median:.2f} ×)" if baseline else ""
    return f"{found.median:,.1f} ± {found.half:.0%}{ratio}"


def _milliseconds(calls: Calls) -> tuple[str, str, str]:
    found = percentiles(calls.latencies)
    p50, p95, p99 = (f"{seconds * 1e3:.{2 if seconds < 0.01 else 1}f}" for seconds in (found.p50, found.p95, found.p99))
    return p50, p95, p99


def calls_table(model: ModelResults, several: Mapping[int, Mapping[str, Calls]]) -> str:
    """Return a table of latencies by concurrency, for contenders that were measured with several calls at once."""
    names = dict.fromkeys(name for calls in several.values() for name in calls)
    counts = (1, *several)
    rows = [
        _calls_row(name, count, calls) for name in names for count in counts if (calls := model.calls_of(name, count))
    ]
    return table(("one text a call", "calls at once", "p50, ms", "p95", "p99", "calls/s"), rows)


def _calls_row(name: str, count: int, calls: Calls) -> tuple[str, ...]:
    return name, str(count), *_milliseconds(calls), f"{len(calls.latencies) / sum(calls.seconds):,.1f}"


def mixed_table(mixed: Mapping[str, Mixed]) -> str:
    """Return a table of calls of one text, alone and beside streams that saturate the server."""
    header = (
        "calls at random times",
        "calls/s",
        "calls",
        "p50, ms",
        "p95",
        "p99",
        "p99 / batch",
        "a batch, ms",
        "streams",
    )
    return table(header, [row for name, each in mixed.items() for row in _mixed_rows(name, each)])


def _mixed_rows(contender: str, mixed: Mixed) -> Iterable[tuple[str, ...]]:
    alone, beside = spread(mixed.alone), spread(mixed.beside)
    batch = spread(mixed.batches).median if mixed.batches else 0.0
    share, of_processor = beside.median / alone.median, NONE
    if all(mixed.alone_processor):
        of_processor = f"{spread(mixed.beside_processor).median / spread(mixed.alone_processor).median:.0%}"
    streams = f"{share:.0%} of that; of that a second of its processors {of_processor}"
    measured = (("idle", mixed.idle, f"{alone.median:,.1f} texts/s alone"), ("busy", mixed.latencies, streams))
    for name, latencies, said in measured:
        if latencies:
            found = percentiles(latencies)
            times = [f"{seconds * 1e3:.1f}" for seconds in (found.p50, found.p95, found.p99)]
            ratio = f"{found.p99 / batch:.2f} ×" if batch else NONE
            count = str(len(latencies))
            yield (f"{contender}, {name}", f"{mixed.rate:g}", count, *times, ratio, f"{batch * 1e3:.1f}", said)


def where_table(mixed: Mapping[str, Mixed]) -> str:
    """Return a table of where the time of calls went."""
    kinds = [
        (f"{name}, {kind}", calls)
        for name, m in mixed.items()
        for kind, calls in (("idle", m.idle_parts), ("busy", m.parts))
    ]
    measured = [(name, calls) for name, calls in kinds if calls]
    header = ("where, ms: mean / p99", *dict.fromkeys(part for _, calls in measured for part in calls[0]))
    rows = []
    for name, calls in measured:
        columns = [[call[part] for call in calls] for part in header[1:]]
        times = [f"{mean(column) * 1e3:.1f} / {percentiles(column).p99 * 1e3:.1f}" for column in columns]
        rows.append((name, *times))
    return table(header, rows)


def processor_table(model: ModelResults) -> str:
    """Return a table of the processor time per text of each role, with the texts per second."""
    rows = []
    for name, each in model.processor.items():
        bulk = model.bulk_of(name, BULK[0])
        costs = [f"{each.seconds.get(role, 0.0) / each.texts * 1e3:.3f}" for role in ROLES]
        rows.append((name, f"{spread(bulk.rates).median:,.1f}" if bulk else NONE, *costs))
    return table((f"{BULK[0]}: processor ms a text", "texts/s", *ROLES), rows)


def goals_table(found: Sequence[Goal], about: str) -> str:
    """Return a table of the goals, and of what was measured."""
    rows = [(each.what, each.aim, each.measured or NONE, each.outcome) for each in found]
    return f"## Goals\n\n{about}\n\n" + table(("goal", "aim", "measured", ""), rows)


def choices_line(model: ModelResults) -> str:
    """Return a list of each contender's versions, and of how it was fed."""
    lines = []
    for name, versions in model.versions.items():
        tuned = not name.startswith(("bertstream", "engine", "floor", "infinity"))
        fed = [_fed(workload, each[name].choice) for workload, each in model.bulk.items() if tuned and name in each]
        lines.append(f"- {name}: {_pairs(versions)}" + (f"; {', '.join(fed)}" if fed else ""))
    return "\n".join(lines)


def _fed(workload: str, choice: Choice) -> str:
    streams = f" on {choice.streams} streams" if choice.streams > 1 else ""
    return f"{workload} in batches of {choice.batch_size}{streams}"


def _pairs(values: dict[str, object] | dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
