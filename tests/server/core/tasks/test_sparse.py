"""Sparse vectors: their options, prompts, and answers from the head's weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bertstream.server.core.errors import RequestError
from bertstream.server.core.tasks.base import Share
from bertstream.server.core.tasks.sparse import EncodeSparse
from bertstream.server.protocols.bertstream_v1.tasks.sparse import parse_encode_sparse
from bertstream.server.protocols.bertstream_v1.tasks.writing import write
from bertstream.v1 import tasks_pb2, types_pb2
from bertstream.workers.contract import INTERACTIVE, HeadOptions, OutputOptions, SparsePooling
from bertstream.workers.programs.description import SparseDefault
from tests.server.core.tasks.conftest import Stub
from tests.server.core.tasks.stubs import prepare

TEXTS = types_pb2.TextBatch(texts=types_pb2.Texts(texts=["a fox", "the lazy dog"]))
IDS = types_pb2.TextBatch(token_ids=types_pb2.TokenIdLists(token_ids=[2, 5, 3], lengths=[3]))
SPLADE: dict[str, Any] = {
    "sparse_pooling": SparseDefault("sum", "log1p_relu", 7),
    "prompts": {"query": "find: "},
    "default_prompt_name": "query",
}


def asked(stub: Stub, options: dict[str, Any] | None = None, head: str = "fill_mask", **changed: Any) -> Any:
    model = stub("bert", head, **changed)
    return parse_encode_sparse(tasks_pb2.SparseOptions(**options or {}), model, INTERACTIVE, "options")


def refused(call: Callable[[], Any]) -> tuple[str, str]:
    """Return the reason, and the field at fault."""
    with pytest.raises(RequestError) as raised:
        call()
    violations = raised.value.violations
    return raised.value.reason, violations[0].field if violations else ""


def task_of(stub: Stub, options: dict[str, Any] | None = None, **changed: Any) -> EncodeSparse:
    task: EncodeSparse = asked(stub, options, **changed).task
    return task


def test_defaults_are_the_checkpoint_s(stub: Stub) -> None:
    plain = asked(stub)
    assert plain.task.output_options == OutputOptions(("sparse_weights",), head=HeadOptions("fill_mask"))
    assert (plain.effective.top_k, plain.effective.prompt) == (0, "")
    own = asked(stub, **SPLADE)
    head = HeadOptions("fill_mask", top_k=7, sparse=SparsePooling("sum", "log1p_relu"))
    assert own.task.output_options.head == head
    assert (own.effective.top_k, own.effective.prompt) == (7, "find: ")
    assert asked(stub, {"top_k": 3}, **SPLADE).effective.top_k == 3


def test_a_prompt_goes_before_texts_and_its_own_one_not_before_ids(stub: Stub) -> None:
    without, with_own = (prepare(task_of(stub, **changed), TEXTS).batch.lengths for changed in ({}, SPLADE))
    assert (with_own > without).all()
    named = prepare(task_of(stub, {"prompt_name": "query"}, prompts=SPLADE["prompts"]), TEXTS)
    assert named.batch.lengths.tolist() == with_own.tolist()
    assert prepare(task_of(stub, **SPLADE), IDS).batch.ids.tolist() == [2, 5, 3]
    fault = refused(lambda: prepare(task_of(stub, {"prompt": "x"}), IDS))
    assert fault == ("INVALID_COMBINATION", "options.prompt")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"top_k": -1}, ("INVALID_RANGE", "options.top_k")),
        ({"prompt_name": "x"}, ("INVALID_PROMPT_NAME", "options.prompt_name")),
        ({"prompt": "x" * 10_001}, ("REQUEST_TOO_LARGE", "options.prompt")),
        ({"priority": 9}, ("INVALID_ENUM", "options.priority")),
    ],
)
def test_bad_options(stub: Stub, options: dict[str, Any], expected: tuple[str, str]) -> None:
    assert refused(lambda: task_of(stub, options)) == expected


def test_a_model_without_the_head(stub: Stub) -> None:
    assert refused(lambda: asked(stub, head="next_sentence"))[0] == "HEAD_NOT_AVAILABLE"


@pytest.mark.parametrize("shown", [False, True])
def test_answers(stub: Stub, shown: bool) -> None:
    task = task_of(stub, {"include_tokens": shown})
    rows = prepare(task, TEXTS)
    fox = int(rows.batch.ids[-2])
    tensors = {
        "sparse_weights.counts": np.array([0, 2], np.int32),
        "sparse_weights.ids": np.array([2, fox], np.int32),
        "sparse_weights.weights": np.array([0.5, 0.25], np.float32),
    }
    share = Share(np.arange(2), np.arange(2), np.ones(2, np.int64), tensors)
    assert task.least_bytes(share) == 2 * (4 + 4)
    message: Any = write(task.answer(rows, share))
    assert isinstance(message, tasks_pb2.SparseVectors)
    assert (list(message.weight_counts), list(message.token_ids)) == ([0, 2], [2, fox])
    assert list(message.weights) == [0.5, 0.25]
    assert len(message.tokens) == (2 if shown else 0)
    if shown:
        assert message.tokens[0] == "[CLS]"
