"""List every metric of the server, by the process that has it; docs/metrics.md is made from this."""

from __future__ import annotations

from collections.abc import Mapping

from bertstream.workers.measuring.declarations import Metric
from bertstream.workers.measuring.frontend_metrics import FRONTEND
from bertstream.workers.measuring.snapshots import Gauges
from bertstream.workers.measuring.supervisor_metrics import SUPERVISOR
from bertstream.workers.measuring.worker_metrics import WORKER

CATALOG: Mapping[str, Metric] = {metric.name: metric for metric in (*FRONTEND, *WORKER, *SUPERVISOR)}
GAUGES = Gauges({metric.name: metric.merge for metric in CATALOG.values() if metric.kind == "gauge"})
