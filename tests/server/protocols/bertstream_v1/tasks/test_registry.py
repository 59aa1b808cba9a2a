"""Every task of the protocol is served, and its answers have a place in the protocol."""

from __future__ import annotations

import dataclasses
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest

from bertstream.server.core.head_outputs import HEAD_OUTPUTS
from bertstream.server.core.layout import UNITS
from bertstream.server.core.models import Models
from bertstream.server.protocols.bertstream_v1.services.tasks import TaskService
from bertstream.server.protocols.bertstream_v1.tasks.asked import Parse
from bertstream.server.protocols.bertstream_v1.tasks.registry import SERVICE, TASKS, tasks_by_rpc
from bertstream.server.protocols.bertstream_v1.tasks.writing import MESSAGES
from bertstream.v1 import tasks_pb2
from bertstream.workers.contract import Output
from tests.support.literals import values_of_literal


def test_every_task_has_its_options_its_rpc_and_its_line() -> None:
    assert list(TASKS) == [field.name for field in tasks_pb2.PredictionOptions.DESCRIPTOR.oneofs_by_name["task"].fields]
    assert sorted(tasks_by_rpc().values()) == sorted(TASKS)


def test_every_rpc_is_served() -> None:
    assert set(TaskService(Models([])).handlers()) == {method.name for method in SERVICE.methods}


def answers_of(parse: Parse) -> type:
    """Return the class of the answers of what is parsed, however a task is computed."""
    asked = get_type_hints(parse)["return"]
    ways = get_args(asked) if isinstance(asked, UnionType) or get_origin(asked) is Union else (asked,)
    (found,) = {get_type_hints(get_args(way)[0].answer)["return"] for way in ways}
    made: type = found
    return made


@pytest.mark.parametrize("task", TASKS)
def test_answers_are_named_as_their_messages_are(task: str) -> None:
    """The class of a task's answers has the name of a message, and the same fields."""
    columns: Any = answers_of(TASKS[task])
    fields = MESSAGES[columns.__name__].DESCRIPTOR.fields_by_name
    assert [field.name for field in dataclasses.fields(columns)] == list(fields)


def test_every_answer_of_the_protocol_is_some_task_s() -> None:
    assert sorted(answers_of(parse).__name__ for parse in TASKS.values()) == sorted(MESSAGES)


def test_every_output_of_heads_has_its_size() -> None:
    encodings = {"pooled", "pooler_output", "last_hidden_state", "hidden_states", "attentions", "pooled_spans"}
    assert set(HEAD_OUTPUTS) == set(values_of_literal(Output)) - encodings - {"token_vectors"}
    assert {name: UNITS[name] for name in HEAD_OUTPUTS} == {name: its.unit for name, its in HEAD_OUTPUTS.items()}
