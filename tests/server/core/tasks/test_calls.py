"""Some of the items of a message are answered, up to the first that fails."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from bertstream.server.core.callers import NOBODY
from bertstream.server.core.errors import RequestError
from bertstream.server.core.sent import Sent
from bertstream.server.core.tasks.calls import answer_items, answer_some, prepare_each, prepare_items
from bertstream.server.core.tasks.labels import ClassifyTexts, TextLabels, classify_texts
from bertstream.server.core.tokenization import Texts, Truncation
from bertstream.workers.contract import INTERACTIVE
from tests.server.core.tasks.conftest import Stub
from tests.server.protocols.bertstream_v1.services.tasks.served import Served

TERMS: Any = SimpleNamespace(caller=NOBODY, deadline=math.inf, check_deadline=lambda: None)
TEXTS = ["a fox", "the dog", "lazy fox", "a dog"]


def counted(answer: TextLabels) -> int:
    return len(answer.label_counts)


def beginning(model: Any, texts: list[str], most: int = 9) -> Any:
    """Return what begins to classify these texts, which are refused where they have more tokens than `most`."""
    task = classify_texts(model, Truncation("refuse", most), INTERACTIVE, "softmax", 2)
    return lambda: (task, Sent(Texts(texts)))


async def test_items_before_the_first_that_fails(stub: Stub) -> None:
    model: Any = Served(stub("bert", "sequence_classification", labels=("a", "b")))
    prepared = await prepare_each(model, beginning(model, TEXTS))
    dog = model.tokenizer.ids_of(["dog"])[0]
    model.dispatcher.killer = dog
    answered, error = await answer_some(model, prepared, slice(0, 4), counted, TERMS, waits=False)
    assert answered is not None
    assert error is not None
    assert (answered.items, answered.written, error.reason) == (1, 1, "POISONOUS_INPUT")
    answered, error = await answer_some(model, prepared, slice(1, 3), counted, TERMS, waits=False)
    assert (answered, error is not None and error.reason) == (None, "POISONOUS_INPUT")
    answered, error = await answer_some(model, prepared, slice(2, 3), counted, TERMS, waits=False)
    assert (answered is not None and answered.written, error) == (1, None)
    with pytest.raises(RequestError) as raised:
        await answer_items(model, prepared, counted, TERMS)
    assert raised.value.reason == "POISONOUS_INPUT"
    assert model.admission.tokens == 0


async def test_items_that_cannot_be_prepared(stub: Stub) -> None:
    model: Any = Served(stub("bert", "sequence_classification", labels=("a", "b")))
    begin = beginning(model, ["fox", "a fox and the lazy dog", "dog"], 4)
    prepared = await prepare_each(model, begin)
    assert list(prepared.rows.failed) == [1]
    answered, error = await answer_some(model, prepared, slice(0, 1), counted, TERMS, waits=False)
    assert (answered is not None and answered.written, error) == (1, None)
    with pytest.raises(RequestError) as raised:
        await prepare_items(model, begin, "send a shorter text")
    assert raised.value.violations[0].field == "inputs.texts[1]"


async def test_an_answer_that_only_the_numbers_show_to_be_too_large_for_one_message(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = Served(stub("bert", "sequence_classification", labels=("a", "b")))
    prepared = await prepare_items(model, beginning(model, TEXTS), "send fewer")
    monkeypatch.setattr(ClassifyTexts, "least_bytes", lambda self, share: 1 << 40)
    with pytest.raises(RequestError) as raised:
        await answer_items(model, prepared, counted, TERMS)
    assert raised.value.reason == "REQUEST_TOO_LARGE"
    answered, error = await answer_some(model, prepared, slice(0, 4), counted, TERMS, waits=False)
    assert (answered is not None and answered.written, error) == (4, None)  # each has a message of its own
