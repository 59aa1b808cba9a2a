"""Read the alerts and the dashboard, and the samples that they are tried with."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.metrics_core import Metric as MetricFamily
from prometheus_client.parser import text_string_to_metric_families

from bertstream.server.admin.prometheus import prometheus_name
from bertstream.workers.measuring.catalog import CATALOG
from tests.support.promql import Labels, Series, labels_of

DEPLOY = Path(__file__).parents[2] / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yaml"
ALERTS_TEST = DEPLOY / "prometheus" / "alerts_test.yaml"
DASHBOARD = DEPLOY / "grafana" / "bertstream.json"
TARGET = {"job": "bertstream", "instance": "a"}  # which Prometheus adds
_SERIES = re.compile(r"(?P<name>\w+)(\{(?P<labels>.*)\})?")
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


def alerts() -> list[dict[str, Any]]:
    """Return the rules of all alerts."""
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def dashboard_queries() -> Iterator[tuple[str, str]]:
    """Yield each query of the dashboard with its panel's title, as Grafana sends it where all is selected."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], filled_in(target["expr"])


def filled_in(query: str) -> str:
    """Return a query with values for the dashboard's variables."""
    values = {"$__rate_interval": "1m", "$job": TARGET["job"], "$instance": ".*", "$model": ".*"}
    for name, value in values.items():
        query = query.replace(name, value)
    return query


def declared() -> dict[str, set[str]]:
    """Return the labels of the samples of each name that the server's metrics have."""
    found = {}
    for metric in CATALOG.values():
        labels = {label.replace(".", "_") for label in metric.labels}
        for suffix in _SUFFIXES[metric.kind]:
            found[prometheus_name(metric) + suffix] = labels | ({"le"} if suffix == "_bucket" else set())
    return found


def sample_names(families: Iterable[MetricFamily]) -> set[str]:
    """Return the names that samples of these families have, or would have where there were any."""
    return {family.name + suffix for family in families for suffix in _SUFFIXES[family.type]}


def scraped(body: str) -> dict[Labels, float]:
    """Return the samples of an answer of /metrics, with the labels that Prometheus adds."""
    samples = (sample for family in text_string_to_metric_families(body) for sample in family.samples)
    return {labels_of(sample.name, {**sample.labels, **TARGET}): sample.value for sample in samples}


def series_of(written: str, values: str, seconds: float) -> Series:
    """Return a series as tests of alerts write it: `a{b="c"}`, and `1x2 0+3x4 _`, a value each so many seconds."""
    found = _SERIES.fullmatch(written)
    assert found is not None, written
    points = [(place * seconds, value) for place, value in enumerate(_expanded(values)) if value is not None]
    return Series(labels_of(found["name"], dict(_LABEL.findall(found["labels"] or ""))), tuple(points))


def _expanded(values: str) -> Iterator[float | None]:
    """Yield the values of promtool's notation: `axn` is a and n times a again, `a+bxn` rises by b each time."""
    for part in values.split():
        start, _, times = part.partition("x")
        first, _, step = start.partition("+")
        count = int(times or 0) + (first != "_" or not times)
        yield from (None if first == "_" else float(first) + float(step or 0) * number for number in range(count))
