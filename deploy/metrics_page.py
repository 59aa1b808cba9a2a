"""Write docs/metrics.md again, from the declarations of all metrics; `make metrics-page` runs it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from bertstream.server.admin.prometheus import prometheus_name
from bertstream.workers.measuring.declarations import BYTES, PARTS, SECONDS, TOKENS, Metric
from bertstream.workers.measuring.frontend_metrics import FRONTEND
from bertstream.workers.measuring.supervisor_metrics import SUPERVISOR
from bertstream.workers.measuring.worker_metrics import WORKER

PAGE = Path(__file__).resolve().parents[1] / "docs" / "metrics.md"

_INTRODUCTION = """\
# Metrics

Every metric of the server, with its meaning and unit. This page is made from the declarations in `workers/…/measuring`
by `make metrics-page`; a test holds it to them.

The [admin port](operations.md#the-admin-port) shows them at `/metrics` for Prometheus, and
[`--metric-endpoint`](operations.md#metrics-over-otlp) pushes them over OTLP, with the names and units that
OpenTelemetry's conventions ask for. They are of the whole server: what its processes have counted is added up, also of
those that have ended. Of a process that is killed the counts of its last second may be missing.

- **Labels are bounded.** `grpc_method` is a method that there is, or `other`; `model` is one that is served, or was;
  `caller` is the name of a key. A metric has at most 4096 series in each process, and what has other labels is counted
  under `other`.
- **Each call is counted once**, when it ends, by the status that it ended with; `started` counts when it begins.
- **Exemplars.** For readers that accept OpenMetrics, and over OTLP, the buckets of `grpc.server.call.duration` have the
  `request_id` of one call, which its line in the log has too, and the `trace_id` where the call was traced.
- **Rates, not values.** Counters and histograms begin at 0 with the server: `rate(…[1m])` makes rates of them, and
  `histogram_quantile(0.99, sum by (le) (rate(…_bucket[1m])))` makes quantiles.
"""


def page() -> str:
    """Return the whole page."""
    sections = (
        ("Calls", "Counted by the frontends, of every service.", FRONTEND, "grpc."),
        ("Streams, callers and texts", "Counted by the frontends.", FRONTEND, "bertstream."),
        ("Queues, batches and generation", "Counted by the workers.", WORKER, ""),
        ("Processes and models", "Counted and looked at by the supervisor.", SUPERVISOR, ""),
    )
    parts = [_INTRODUCTION]
    for title, about, metrics, prefix in sections:
        shown = [each for each in metrics if each.name.startswith(prefix)]
        parts.append("\n".join([f"## {title}", "", about, "", *_table(shown)]) + "\n")
    return "\n".join([*parts, "\n".join(_buckets())]) + "\n"


def _table(metrics: Iterable[Metric]) -> Iterator[str]:
    yield "| Prometheus | OpenTelemetry | kind | unit | labels | meaning |"
    yield "|---|---|---|---|---|---|"
    for each in metrics:
        name = prometheus_name(each) + ("_total" if each.kind == "counter" else "")
        labels = ", ".join(f"`{label.replace('.', '_')}`" for label in each.labels)
        cells = (f"`{name}`", f"`{each.name}`", each.kind, f"`{each.unit}`", labels, each.meaning)
        yield f"| {' | '.join(cells)} |"


def _buckets() -> Iterator[str]:
    yield "## Buckets"
    yield ""
    yield "The upper bounds of histograms, above which there is one more bucket without a bound:"
    yield ""
    yield "| of | bounds |"
    yield "|---|---|"
    for name, bounds in (("seconds", SECONDS), ("bytes", BYTES), ("tokens", TOKENS), ("parts of a whole", PARTS)):
        yield f"| {name} | {', '.join(f'{each:g}' for each in bounds)} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
