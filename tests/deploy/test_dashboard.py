"""The dashboard is made from the table of its panels, and asks for metrics that there are."""

from __future__ import annotations

import json
import re

import promql_parser
import pytest

from deploy.grafana import generate
from tests.support.monitoring import DASHBOARD, dashboard_queries, declared, filled_in
from tests.support.promql import label_lists, selectors

QUERIES = list(dashboard_queries())
FREE = {"job", "instance"}


def test_the_file_is_that_of_the_table() -> None:
    assert DASHBOARD.read_text() == generate.text(), "run python deploy/grafana/generate.py"


@pytest.mark.parametrize(("title", "query"), QUERIES, ids=[f"{title}-{at}" for at, (title, _) in enumerate(QUERIES)])
def test_a_query_asks_for_metrics_that_there_are(title: str, query: str) -> None:
    known, expression = declared(), promql_parser.parse(query)
    used = list(selectors(expression))
    assert used, title
    for selector in used:
        assert selector.name in known
        matched = {matcher.name for matcher in selector.matchers.matchers}
        assert matched <= known[selector.name] | FREE
        assert matched >= FREE, "the dashboard's choice of servers is left out"
    labels = set().union(*(known[selector.name] for selector in used)) | FREE
    assert {label for each in label_lists(expression) for label in each} <= labels


def test_legends_show_labels_that_queries_keep() -> None:
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            kept = {label for each in label_lists(promql_parser.parse(filled_in(target["expr"]))) for label in each}
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= kept


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_variables_ask_for_metrics_that_there_are() -> None:
    for variable in json.loads(DASHBOARD.read_text())["templating"]["list"][1:]:
        found = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
        assert found is not None
        (selector,) = selectors(promql_parser.parse(filled_in(found[1])))
        assert found[2] in declared()[selector.name] | FREE
