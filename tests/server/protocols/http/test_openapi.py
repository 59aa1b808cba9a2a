from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from msgspec import convert

from bertstream.server.core.models import Models
from bertstream.server.protocols.http.answers import dumped
from bertstream.server.protocols.http.endpoints import Endpoint
from bertstream.server.protocols.http.openapi import document
from bertstream.server.protocols.http.served import Serving, endpoints
from bertstream.server.protocols.interceptors.links import Kind
from tests.support.web import events_of


def served() -> Sequence[Endpoint]:
    return endpoints(Serving(Models(), "1.2.3", 1, lambda: True))


def test_every_endpoint_is_described_once() -> None:
    described: Any = json.loads(dumped(document(served(), "1.2.3")))
    names = [f"{method.upper()} {path}" for path, methods in described["paths"].items() for method in methods]
    assert sorted(names) == sorted(each.name for each in served())
    ids = [each["operationId"] for methods in described["paths"].values() for each in methods.values()]
    assert len(set(ids)) == len(ids)
    assert described["info"]["version"] == "1.2.3"


def test_a_stream_of_events_is_described_beside_the_answer() -> None:
    described: Any = json.loads(dumped(document(served(), "1")))
    content = described["paths"]["/v1/generate"]["post"]["responses"]["200"]["content"]
    kinds = [kind for kind, _ in events_of(content["text/event-stream"]["example"])]
    assert kinds == ["started", "piece", "completed", "error"]
    assert content["application/json"]["example"]["generations"]


def test_every_reference_leads_somewhere() -> None:
    described: Any = json.loads(dumped(document(served(), "1")))
    used = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(described)))
    assert used == set(described["components"]["schemas"])


def test_every_body_has_an_example_that_fits() -> None:
    with_bodies = [each for each in served() if each.request is not None]
    assert len(with_bodies) > 5
    for each in with_bodies:
        assert each.request is not None
        assert isinstance(convert(each.example, each.request), each.request)


def test_only_what_tells_nothing_of_models_is_standard() -> None:
    standard = {each.path for each in served() if each.kind is Kind.STANDARD}
    assert standard == {"/health", "/openapi.json", "/docs", "/docs/page.js", "/docs/page.css"}


def test_every_path_that_is_not_a_get_has_a_body() -> None:
    assert [each.name for each in served() if (each.method == "POST") != (each.request is not None)] == []
