from __future__ import annotations

import pytest
from msgspec import convert

from bertstream.server.protocols.http.tasks.base import TaskRoute, by_counts
from bertstream.server.protocols.http.tasks.routes import ROUTES
from bertstream.v1 import tasks_pb2

TRUNCATION = {"truncation", "truncation_side", "max_length"}
OTHERWISE = {"keep_all_labels"}  # `ignored_labels` says it by an empty list
ITEMS = {"inputs", "question", "context", "prompt", "choices"}
ELSEWHERE = {"rerank", "encode_sparse"}  # /v1/rerank and /embed_sparse


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_a_body_has_all_options_of_its_rpc_and_no_others(route: TaskRoute) -> None:
    options = set(route.options(convert(route.example, route.request)).DESCRIPTOR.fields_by_name)
    if "truncation" in options:
        options |= TRUNCATION
    assert set(route.request.__struct_fields__) - ITEMS == options - OTHERWISE


def test_every_task_has_a_route() -> None:
    messages = {route.options(convert(route.example, route.request)).DESCRIPTOR.name for route in ROUTES}
    tasks = tasks_pb2.PredictionOptions.DESCRIPTOR.oneofs_by_name["task"].fields
    assert messages == {each.message_type.name for each in tasks if each.message_type and each.name not in ELSEWHERE}


def test_values_are_split_by_counts() -> None:
    assert by_counts("abcd", [1, 0, 3]) == ["a", "", "bcd"]
    assert by_counts([], []) == []
