"""Prompts with choices: their rows, probabilities and errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from bertstream.server.core.errors import RequestError
from bertstream.server.core.tasks.base import Share
from bertstream.server.core.tasks.choices import ChooseAnswers
from bertstream.server.protocols.bertstream_v1.tasks.choices import parse_choose
from bertstream.server.protocols.bertstream_v1.tasks.writing import write
from bertstream.v1 import tasks_pb2, types_pb2
from bertstream.workers.contract import INTERACTIVE
from tests.server.core.tasks.conftest import Stub
from tests.server.core.tasks.stubs import prepare
from tests.server.protocols.bertstream_v1.validation.support import refused

Checkpoint = Callable[[str], Path]


def parse(stub: Stub, family: str = "bert", **options: Any) -> ChooseAnswers:
    model = stub(family, "multiple_choice")
    return parse_choose(tasks_pb2.ChooseOptions(**options), model, INTERACTIVE, "options").task


def lists(prompts: list[str], choices: list[str], counts: list[int]) -> tasks_pb2.ChoiceLists:
    return tasks_pb2.ChoiceLists(prompts=prompts, choices=choices, choice_counts=counts)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_each_choice_is_a_pair_with_its_prompt(stub: Stub, checkpoint: Checkpoint, family: str) -> None:
    task, own = parse(stub, family), AutoTokenizer.from_pretrained(checkpoint(family))
    rows = prepare(task, lists(["the fox", "a dog"], ["jumps", "sleeps", "", "in the sun"], [1, 3]))
    expected = own(["the fox", "a dog", "a dog", "a dog"], ["jumps", "sleeps", "", "in the sun"])
    parts = np.split(rows.batch.ids, np.cumsum(rows.batch.lengths)[:-1])
    assert [part.tolist() for part in parts] == expected["input_ids"]
    if "token_type_ids" in expected:
        assert rows.batch.type_ids is not None
        assert rows.batch.type_ids.tolist() == [each for types in expected["token_type_ids"] for each in types]
    assert rows.items.tolist() == [0, 1, 1, 1]


def test_probabilities_are_the_softmax_of_each_question(stub: Stub) -> None:
    task = parse(stub)
    rows = prepare(task, lists(["x", "y", "z"], list("abcdef"), [1, 3, 2]))
    logits = np.array([[7.0], [1.0], [2.0], [3.0], [5e4], [4e4]], np.float32)
    counts = np.array([1, 3, 2])
    choices = write(task.answer(rows, Share(np.arange(3), np.arange(6), counts, {"label_scores": logits})))
    assert isinstance(choices, tasks_pb2.Choices)
    powers = np.exp([1.0, 2.0, 3.0])
    assert list(choices.choice_counts) == [1, 3, 2]
    assert np.allclose(list(choices.probabilities), [1.0, *(powers / powers.sum()), 1.0, 0.0], atol=1e-7)


def test_a_question_fails_alone(stub: Stub) -> None:
    task = parse(stub, truncation=types_pb2.TruncationOptions(max_length=6, strategy=1))  # type: ignore[arg-type]
    choices = lists(["p", "dog", "dog", "q", "dog"], ["a", "b", "fox " * 9, "c", "e", "a"], [1, 2, 0, 2, 1])
    rows = prepare(task, choices, "items.choices", bad=[3])
    assert rows.items.tolist() == [0, 4]
    assert {index: (error.reason, error.violations[0].field) for index, error in rows.failed.items()} == {
        1: ("INVALID_TEXT_LENGTH", "items.choices.prompts[1]"),
        2: ("INVALID_EMPTY_LIST", "items.choices.choice_counts[2]"),
        3: ("INVALID_UTF8", "items.choices.prompts[3]"),
    }
    assert rows.batch.lengths.size == 2


def test_questions_whose_pairs_are_cut_are_truncated(stub: Stub) -> None:
    task = parse(stub, truncation=types_pb2.TruncationOptions(max_length=8))
    rows = prepare(task, lists(["dog", "dog"], ["fox", "fox " * 9, "fox"], [2, 1]))
    assert rows.truncated.tolist() == [True, False]


@pytest.mark.parametrize(
    ("choices", "reason", "field"),
    [
        (lists([], [], []), "INVALID_EMPTY_LIST", "inputs.choice_counts"),
        (lists(["p"], ["a", "b"], [1, 1]), "INVALID_LENGTHS", "inputs.choice_counts"),
        (lists(["p"], ["a", "b"], [1]), "INVALID_LENGTHS", "inputs.choice_counts"),
        (lists(["p", "q"], ["a"], [2, -1]), "INVALID_LENGTHS", "inputs.choice_counts"),
        (lists(["p", "q"], ["a"] * 1001, [1, 1000]), "REQUEST_TOO_LARGE", "inputs.choices"),
        (types_pb2.TextBatch(texts=types_pb2.Texts(texts=["a"])), "INVALID_INPUT_KIND", "inputs"),
    ],
)
def test_lists_that_make_no_sense(stub: Stub, choices: Any, reason: str, field: str) -> None:
    with pytest.raises(RequestError) as raised:
        prepare(parse(stub), choices)
    assert refused(raised) == ("INVALID_ARGUMENT", reason, field)


def test_a_question_with_too_many_choices_fails_alone(stub: Stub) -> None:
    task = parse(stub)
    rows = prepare(task, lists(["p", "q", "r"], ["a", *["b"] * 1001, "c"], [1, 1001, 1]))
    assert rows.items.tolist() == [0, 2]
    assert rows.batch.lengths.size == 2
    (error,) = rows.failed.values()
    assert (error.reason, error.violations[0].field) == ("REQUEST_TOO_LARGE", "inputs.choice_counts[1]")


def test_all_prompts_without_choices(stub: Stub) -> None:
    rows = prepare(parse(stub), lists(["p"], [], [0]))
    assert rows.batch.lengths.size == 0
    assert [error.reason for error in rows.failed.values()] == ["INVALID_EMPTY_LIST"]
