"""Holds the tables of metrics to what Prometheus and OpenTelemetry ask of names, units, labels and buckets."""

from __future__ import annotations

import re

import pytest

from bertstream.workers.measuring.catalog import CATALOG
from bertstream.workers.measuring.declarations import Metric
from bertstream.workers.measuring.frontend_metrics import FRONTEND
from bertstream.workers.measuring.supervisor_metrics import SUPERVISOR
from bertstream.workers.measuring.worker_metrics import WORKER

_UNITS = re.compile(r"s|By|1|\{[a-z_]+\}")


@pytest.mark.parametrize("metric", CATALOG.values(), ids=lambda metric: metric.name)
def test_a_declaration_says_all(metric: Metric) -> None:
    assert re.fullmatch(r"(bertstream|grpc\.server)(\.[a-z_]+)+", metric.name)
    assert _UNITS.fullmatch(metric.unit)
    assert metric.meaning.endswith(".")
    assert re.match(r"(Counts|Measures|Is) ", metric.meaning)
    assert all(re.fullmatch(r"[a-z]+([._][a-z]+)*", label) for label in metric.labels)
    assert bool(metric.buckets) == (metric.kind == "histogram")
    assert list(metric.buckets) == sorted(set(metric.buckets))


def test_no_name_is_used_twice() -> None:
    assert len(CATALOG) == len(FRONTEND) + len(WORKER) + len(SUPERVISOR)
