"""Alerts: each fires when it should, has an entry in the runbook, and asks for metrics that there are."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from tests.support import monitoring
from tests.support.monitoring import ALERTS, ALERTS_TEST, alerts, declared
from tests.support.promql import Labels, Series, evaluate, label_lists, selectors

ROOT = Path(__file__).parents[2]
RULES = {rule["alert"]: rule for rule in alerts()}
CASES = yaml.safe_load(ALERTS_TEST.read_text())["tests"]
FREE = {"job", "instance"}  # labels that Prometheus adds
_UNITS = {"s": 1, "m": 60, "h": 3600}


def seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+)([smh])", text)
    assert found is not None, text
    return float(found[1]) * _UNITS[found[2]]


def firing(rule: dict[str, Any], series: list[Series], end: float) -> set[Labels]:
    """Return the alerts of a rule that fire at a time: those that have been true at each minute for long enough."""
    since: dict[Labels, float] = {}
    for minute in range(int(end // 60) + 1):
        now = minute * 60.0
        true = evaluate(rule["expr"], series, now)
        assert isinstance(true, dict)
        active = {frozenset(each for each in labels if each[0] != "__name__") for labels in true}
        since = {labels: since.get(labels, now) for labels in active}
    wait = seconds(rule.get("for", "0s"))
    return {labels for labels, began in since.items() if end - began >= wait}


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_an_alert_fires_when_it_should(case: dict[str, Any]) -> None:
    step = seconds(case["interval"])
    series = [monitoring.series_of(each["series"], each["values"], step) for each in case["input_series"]]
    (wanted,) = case["alert_rule_test"]
    rule = RULES[wanted["alertname"]]
    expected = [each["exp_labels"] for each in wanted["exp_alerts"]]
    found = firing(rule, series, seconds(wanted["eval_time"]))
    assert [{**dict(labels), **rule["labels"]} for labels in found] == expected


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    outcomes = {(test["alertname"], bool(test["exp_alerts"])) for case in CASES for test in case["alert_rule_test"]}
    assert outcomes == {(name, fires) for name in RULES for fires in (True, False)}


def test_promtool_finds_the_same() -> None:
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("no promtool")
    for command in (("check", "config", "prometheus.yaml"), ("test", "rules", ALERTS_TEST.name)):
        done = subprocess.run([promtool, *command], cwd=ALERTS.parent, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", RULES)
def test_an_alert_asks_for_metrics_that_there_are(name: str) -> None:
    known = {**declared(), "up": set()}
    expression = promql_parser.parse(RULES[name]["expr"])
    used = list(selectors(expression))
    assert used
    for selector in used:
        assert selector.name in known
        assert {matcher.name for matcher in selector.matchers.matchers} <= known[selector.name] | FREE
    labels = set().union(*(known[selector.name] for selector in used)) | FREE
    assert {label for each in label_lists(expression) for label in each} <= labels


@pytest.mark.parametrize("name", RULES)
def test_an_alert_has_an_entry_in_the_runbook(name: str) -> None:
    rule = RULES[name]
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^### (\w+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert anchor == name.lower()
    assert headings.count(name) == 1
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in ("critical", "warning")


def test_the_runbook_has_no_entry_without_an_alert() -> None:
    headings = re.findall(r"^### (Bertstream\w+)$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    assert headings == list(RULES)


def vector(series: dict[str, str], query: str) -> dict[str, float]:
    """Return the value of a query by the label that is `x`, at the fifth minute."""
    made = [monitoring.series_of(name, values, 60.0) for name, values in series.items()]
    found = evaluate(query, made, 300.0)
    assert isinstance(found, dict)
    return {dict(labels).get("x", ""): value for labels, value in found.items()}


COUNTERS = {"d": "8x2 9x2", 'a{x="1"}': "0+60x5", 'a{x="2"}': "0+120x3 0+120x1", 'b{x="1"}': "2x5"}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("a", {"1": 300.0, "2": 120.0}),
        ("a > 200", {"1": 300.0}),
        ('a{x!="1"} * 2', {"2": 240.0}),
        ('a{x=~"2|3"} offset 2m', {"2": 360.0}),
        ("increase(a[5m])", {"1": 300.0, "2": 450.0}),
        ("rate(a[2m])", {"1": 1.0, "2": 1.0}),  # since it began anew, and no longer
        ("increase(d[20m])", {"": 1.1}),  # of five minutes, which are not drawn out to twenty
        ("sum(a)", {"": 420.0}),
        ("count by (x) (a)", {"1": 1.0, "2": 1.0}),
        ("max without (x) (a)", {"": 300.0}),
        ("a / b", {"1": 150.0}),
        ("a unless b", {"2": 120.0}),
        ("a and b", {"1": 300.0}),
        ("b or a", {"1": 2.0, "2": 120.0}),
        ("a / on (x) b", {"1": 150.0}),
        ("1 - a", {"1": -299.0, "2": -119.0}),
        ("c", {}),
    ],
)
def test_queries_are_evaluated(query: str, expected: dict[str, float]) -> None:
    assert vector(COUNTERS, query) == pytest.approx(expected)


def test_quantiles_are_those_within_a_bucket() -> None:
    buckets = {'h_bucket{le="1"}': "50x5", 'h_bucket{le="2"}': "90x5", 'h_bucket{le="+Inf"}': "100x5"}
    assert vector(buckets, "histogram_quantile(0.7, h_bucket)") == {"": 1.5}
    assert vector(buckets, "histogram_quantile(0.99, h_bucket)") == {"": 2.0}
    assert math.isnan(vector({'h_bucket{le="+Inf"}': "0x5"}, "histogram_quantile(0.5, h_bucket)")[""])
