"""Both clients have every task of the protocol, with the documented options."""

from __future__ import annotations

import inspect
from typing import Any, get_args, get_overloads, get_type_hints

import pytest
from google.protobuf.descriptor import OneofDescriptor

import bertstream.client as sdk
from bertstream.client import Client
from bertstream.client._tasks.registry import TASKS
from bertstream.client._tasks.rerank import rerank_options
from bertstream.v1 import tasks_pb2 as tasks


@pytest.mark.parametrize(
    ("documented", "makes", "method"),
    [
        (sdk.TaskOptions, TASKS["score_text"], "score_text"),
        (sdk.TaskOptions, TASKS["next_sentence"], "next_sentence"),
        (sdk.FillMaskOptions, TASKS["fill_mask"], "fill_mask"),
        (sdk.ClassifyOptions, TASKS["classify"], "classify"),
        (sdk.ZeroShotOptions, TASKS["zero_shot"], "zero_shot"),
        (sdk.RerankOptions, rerank_options, "rerank"),
        (sdk.EntityOptions, TASKS["entities"], "entities"),
        (sdk.AnswerOptions, TASKS["answer"], "answer"),
        (sdk.TaskOptions, TASKS["choose"], "choose"),
        (sdk.SparseOptions, TASKS["encode_sparse"], "encode_sparse"),
    ],
)
def test_documented_options_are_the_real_ones(documented: Any, makes: Any, method: str) -> None:
    parameters = set(inspect.signature(makes).parameters)
    common = set(get_type_hints(sdk.TaskOptions)) if "given" in parameters else set()
    if "long_texts" in get_type_hints(documented):
        common |= set(get_type_hints(sdk.WindowOptions))
    own = parameters - {"given"} - set(inspect.signature(getattr(Client, method)).parameters)
    assert set(get_type_hints(documented)) == common | own


def kinds_in(oneof: OneofDescriptor) -> list[str]:
    """Return the names of the messages that a oneof may have."""
    return [field.message_type.name for field in oneof.fields if field.message_type is not None]


def test_the_table_has_all_tasks_of_the_protocol_and_methods_of_both_clients() -> None:
    needed: dict[str, dict[str, Any]] = {"zero_shot": {"labels": ["a"]}}
    made = {name: make(**needed.get(name, {})) for name, make in TASKS.items()}
    described = [(type(task.options).__name__, task.answers_type.DESCRIPTOR.name, task.rpc) for task in made.values()]
    options, answers = (
        kinds_in(message.DESCRIPTOR.oneofs[0]) for message in (tasks.PredictionOptions, tasks.PredictedItems)
    )
    rpcs = [rpc.name for rpc in tasks.DESCRIPTOR.services_by_name["TaskService"].methods if not rpc.client_streaming]
    assert described == list(zip(options, answers, rpcs, strict=True))
    assert all(hasattr(kind, name) for kind in (Client, sdk.AsyncClient) for name in TASKS)


@pytest.mark.parametrize("kind", [Client, sdk.AsyncClient])
def test_streams_are_typed_for_every_task(kind: Any) -> None:
    named = [get_args(get_type_hints(each)["task"])[0] for each in get_overloads(kind.predict_stream)]
    assert set(named) == set(TASKS)
