"""What `bertstream top` shows, as text: made of the live numbers alone, without a terminal.

What an older or newer server does not tell is shown as a dash.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from bertstream.cli._top.admin_port import Numbers

NONE = "–"
BARS = "▁▂▃▄▅▆▇█"
METHODS = 8  # those with the most calls


class Column(NamedTuple):
    """A column of a table."""

    name: str
    is_number: bool = True


class Figures(NamedTuple):
    """A table."""

    columns: tuple[Column, ...]
    rows: list[tuple[str, ...]]


MODELS = (
    Column("MODEL", False),
    Column("STATE", False),
    Column("WORKERS"),
    Column("TEXTS/S"),
    Column("TOKENS/S"),
    Column("BATCH"),
    Column("QUEUE"),
    Column("P50"),
    Column("P99"),
)
PROCESSES = (
    Column("PROCESS", False),
    Column("STATE", False),
    Column("CORES"),
    Column("MEMORY"),
    Column("GPU"),
    Column("RESTARTS"),
    Column("UP"),
)
CALLS = (Column("CALLS", False), Column("PER SECOND"))


def headline(numbers: Numbers) -> str:
    """Return which server it is, and how it is."""
    server = _part(numbers, "server")
    state = "draining" if server.get("draining") else "ready" if server.get("ready", True) else "not ready"
    up = duration(server.get("uptime_seconds"))
    return f"bertstream {server.get('version', NONE)} · {server.get('address', NONE)} · {state} · up {up}"


def totals(numbers: Numbers) -> list[str]:
    """Return lines with the numbers of the whole server."""
    calls = _part(numbers, "calls")
    latency = _part(calls, "latency_seconds")
    refused = numbers.get("refused_per_second")
    all_refused = sum(refused.values()) if isinstance(refused, Mapping) else None
    times = " · ".join(f"{name} {seconds(latency.get(name))}" for name in ("p50", "p90", "p99"))
    return [
        f"calls   {rate(calls.get('per_second'))}/s · {count(calls.get('under_way'))} under way · "
        f"{rate(calls.get('failed_per_second'))}/s failed · {times}",
        f"texts   {rate(numbers.get('texts_per_second'))}/s · {rate(numbers.get('tokens_per_second'))} tokens/s · "
        f"{rate(all_refused)}/s refused · {count(numbers.get('streams'))} streams",
    ]


def models(numbers: Numbers) -> Figures:
    """Return the models, in the server's order."""
    return Figures(MODELS, [_model(each) for each in _parts(numbers, "models")])


def processes(numbers: Numbers) -> Figures:
    """Return the processes, in the server's order."""
    return Figures(PROCESSES, [_process(each) for each in _parts(numbers, "processes")])


def calls(numbers: Numbers) -> Figures:
    """Return the rpcs that are called most."""
    by_method = _part(_part(numbers, "calls"), "by_method")
    busy = sorted((-per_second, method) for method, per_second in by_method.items() if per_second > 0)
    return Figures(CALLS, [(method, rate(-negative)) for negative, method in busy[:METHODS]])


def trend(values: Sequence[float], width: int) -> str:
    """Return the last values as bars, at most `width` of them, the highest as high as a bar can be."""
    shown = list(values)[-width:]
    most = max(shown, default=0.0)
    if most <= 0:
        return BARS[0] * len(shown)
    return "".join(BARS[min(len(BARS) - 1, int(value / most * len(BARS)))] for value in shown)


def rate(value: float | None) -> str:
    """Return a number of things a second: 0.25, 12.3, 1,234."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if value >= 100 or value == 0 else f"{value:.3g}"


def count(value: float | None) -> str:
    """Return a whole number."""
    return NONE if value is None else f"{value:,.0f}"


def seconds(value: float | None) -> str:
    """Return a time as people say it: 35 µs, 4.2 ms, 1.5 s."""
    if value is None:
        return NONE
    for factor, unit in ((1, "s"), (1e3, "ms")):
        if value * factor >= 1:
            return f"{value * factor:.3g} {unit}"
    return f"{value * 1e6:.3g} µs"


def size(value: float | None) -> str:
    """Return bytes in binary units: 512 B, 3.4 MiB, 1.2 GiB."""
    if value is None:
        return NONE
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1024
    return f"{value:.3g} TiB"


def duration(value: float | None) -> str:
    """Return how long something lives: 12 s, 3:04, 5:06:07, 8 d 9:10:11."""
    if value is None:
        return NONE
    minutes, rest = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours}:{minutes:02}:{rest:02}"
    if hours:
        return f"{hours}:{minutes:02}:{rest:02}"
    return f"{minutes}:{rest:02}" if minutes else f"{rest} s"


def share(value: float | None) -> str:
    """Return a part of a whole in percent."""
    return NONE if value is None else f"{value:.0%}"


def _model(model: Mapping[str, Any]) -> tuple[str, ...]:
    queue, compute = model.get("queue_tokens"), _part(model, "compute_seconds")
    waiting = sum(queue.values()) if isinstance(queue, Mapping) else None
    return (
        str(model.get("name", NONE)),
        str(model.get("state", NONE)),
        f"{count(model.get('workers_alive'))}/{count(model.get('workers'))}",
        rate(model.get("texts_per_second")),
        rate(model.get("tokens_per_second")),
        share(model.get("batch_fill")),
        count(waiting),
        seconds(compute.get("p50")),
        seconds(compute.get("p99")),
    )


def _process(process: Mapping[str, Any]) -> tuple[str, ...]:
    cores = process.get("cpu_cores")
    return (
        str(process.get("name", NONE)),
        str(process.get("state", NONE)),
        NONE if cores is None else f"{cores:.2f}",
        size(process.get("resident_bytes")),
        size(process.get("gpu_bytes")),
        count(process.get("restarts")),
        duration(process.get("uptime_seconds")),
    )


def _part(numbers: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = numbers.get(name)
    return found if isinstance(found, Mapping) else {}


def _parts(numbers: Mapping[str, Any], name: str) -> Iterable[Mapping[str, Any]]:
    found = numbers.get(name)
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []
