"""Scores of the caller's labels equal those of transformers' zero-shot pipeline, given the same logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer
from transformers.pipelines.zero_shot_classification import (
    ZeroShotClassificationArgumentHandler,
    ZeroShotClassificationPipeline,
)

from bertstream.server.core.errors import RequestError, Violation
from bertstream.server.core.preparation import refuse_failed
from bertstream.server.core.sent import Sent, SentItems, in_parts
from bertstream.server.core.tasks.base import Share
from bertstream.server.core.tasks.zero_shot import ClassifyZeroShot
from bertstream.server.core.tokenization import Texts
from bertstream.server.protocols.bertstream_v1.tasks.writing import write
from bertstream.server.protocols.bertstream_v1.tasks.zero_shot import parse_zero_shot
from bertstream.v1 import tasks_pb2, types_pb2
from bertstream.workers.contract import INTERACTIVE
from tests.server.core.tasks.conftest import Stub
from tests.server.protocols.bertstream_v1.validation.support import refused

Checkpoint = Callable[[str], Path]
NLI = ("CONTRADICTION", "NEUTRAL", "ENTAILMENT")
LABELS = ["fox", "lazy dog", "Sonne"]
TEXTS = ["The quick brown fox jumps.", " ", "word " * 600]


def parse(stub: Stub, classes: tuple[str, ...] = NLI, **options: Any) -> ClassifyZeroShot:
    model = stub("bert", "sequence_classification", labels=classes)
    wish = tasks_pb2.ZeroShotOptions(**({"labels": LABELS} | options))
    return parse_zero_shot(wish, model, INTERACTIVE, "options").task


def texts(*listed: str, **more: Any) -> SentItems:
    return Sent(Texts(listed), **more)


def pipeline(checkpoint: Path, labels: tuple[str, ...]) -> Any:
    made: Any = ZeroShotClassificationPipeline.__new__(ZeroShotClassificationPipeline)
    made._args_parser = ZeroShotClassificationArgumentHandler()
    made.tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    made.model = SimpleNamespace(config=SimpleNamespace(label2id={label: i for i, label in enumerate(labels)}))
    return made


def zero_shot_labels(task: ClassifyZeroShot, logits: NDArray[np.float32], count: int) -> tasks_pb2.ZeroShotLabels:
    rows = task.prepare(texts(*TEXTS[:count]))
    counts = np.full(count, len(task.hypotheses))
    found = write(
        task.answer(rows, Share(np.arange(count), np.arange(rows.items.size), counts, {"label_scores": logits}))
    )
    assert isinstance(found, tasks_pb2.ZeroShotLabels)
    return found


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("classes", [NLI, ("entailment", "not_entailment"), ("x", "Entails", "y")])
@pytest.mark.parametrize("wanted", [LABELS, LABELS[:1], [*LABELS, "a", "b"]])
def test_scores_and_their_order(
    stub: Stub, checkpoint: Checkpoint, multi_label: bool, classes: tuple[str, ...], wanted: list[str]
) -> None:
    task = parse(stub, classes, labels=wanted, multi_label=multi_label)
    logits = np.random.default_rng(3).normal(size=(3 * len(wanted), len(classes))).astype(np.float32) * 2
    logits[-1] = logits[-2]  # equal scores
    found = zero_shot_labels(task, logits, 3)
    assert found.label_count == len(wanted)
    theirs = pipeline(checkpoint("bert"), classes)
    indexes, scores = [], []
    for own in np.split(logits, 3):
        outputs = [
            {"candidate_label": label, "sequence": "x", "logits": torch.from_numpy(each[None])}
            for label, each in zip(wanted, own, strict=True)
        ]
        expected = theirs.postprocess(outputs, multi_label=multi_label)
        indexes += [wanted.index(label) for label in expected["labels"]]
        scores += expected["scores"]
    assert list(found.label_indexes) == indexes
    assert np.allclose(list(found.scores), scores, atol=1e-6)


def test_pairs_are_those_of_the_pipeline(stub: Stub, checkpoint: Checkpoint) -> None:
    task = parse(stub, hypothesis_template="About {}, really.")
    rows = task.prepare(texts(*TEXTS))
    theirs = pipeline(checkpoint("bert"), NLI)
    expected = [
        window["input_ids"][0].tolist()
        for text in TEXTS
        for window in theirs.preprocess(text, LABELS, "About {}, really.")
    ]
    assert [part.tolist() for part in np.split(rows.batch.ids, np.cumsum(rows.batch.lengths)[:-1])] == expected
    assert rows.items.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert rows.truncated.tolist() == [False, False, True]


def test_large_logits_do_not_overflow(stub: Stub) -> None:
    found = zero_shot_labels(parse(stub), np.array([[0, 0, 5e4], [0, 0, 4e4], [0, 0, 0]], np.float32), 1)
    assert list(found.scores) == [1.0, 0.0, 0.0]
    assert found.label_indexes[0] == 0


def test_one_label_is_true_or_not(stub: Stub) -> None:
    model = stub("bert", "sequence_classification", labels=NLI)
    effective = parse_zero_shot(tasks_pb2.ZeroShotOptions(labels=["fox"]), model, INTERACTIVE, "options").effective
    assert effective.multi_label
    assert effective.hypothesis_template == "This example is {}."
    assert effective.truncation.strategy == types_pb2.TRUNCATION_STRATEGY_ONLY_FIRST


@pytest.mark.parametrize(
    ("options", "reason", "field"),
    [
        ({"labels": []}, "INVALID_EMPTY_LIST", "options.labels"),
        ({"labels": ["a", " "]}, "INVALID_LABEL", "options.labels[1]"),
        ({"labels": ["a", "b", "a"]}, "INVALID_LABEL", "options.labels[2]"),
        ({"labels": [str(i) for i in range(1001)]}, "REQUEST_TOO_LARGE", "options.labels"),
        ({"hypothesis_template": "No place."}, "INVALID_TEMPLATE", "options.hypothesis_template"),
        ({"hypothesis_template": "{} and {}"}, "INVALID_TEMPLATE", "options.hypothesis_template"),
    ],
)
def test_options_that_make_no_sense(stub: Stub, options: dict[str, Any], reason: str, field: str) -> None:
    with pytest.raises(RequestError) as raised:
        parse(stub, **options)
    assert refused(raised) == ("INVALID_ARGUMENT", reason, field)


@pytest.mark.parametrize("labels", [("bad", "good"), ("ENTAILMENT",), ()])
def test_checkpoints_that_do_not_tell_entailment(stub: Stub, labels: tuple[str, ...]) -> None:
    with pytest.raises(RequestError) as raised:
        parse(stub, labels)
    assert refused(raised)[:2] == ("FAILED_PRECONDITION", "HEAD_NOT_SUITABLE")


def test_a_text_fails_as_a_whole_and_alone(stub: Stub) -> None:
    task = parse(stub, labels=["fox", "word " * 20], truncation=types_pb2.TruncationOptions(max_length=24))
    sent = texts("dog " * 30, "dog", "", path="items.inputs", field="items.inputs.texts", bad=[2])
    rows = task.prepare(replace(sent, options="options.zero_shot"))
    assert rows.items.size == 0
    assert {index: error.reason for index, error in rows.failed.items()} == {
        0: "INVALID_TEXT_LENGTH",
        1: "INVALID_TEXT_LENGTH",
        2: "INVALID_UTF8",
    }
    assert rows.failed[2].violations[0].field == "items.inputs.texts[2]"
    no_room = "the hypothesis has 54 tokens with the special ones, which leaves no room for the other in 24"
    assert rows.failed[1].violations == (Violation("options.zero_shot.labels[1]", no_room),)


def test_a_label_that_is_too_long_is_named_once(stub: Stub) -> None:
    task = parse(
        stub, labels=["word " * 20, "fox", "word " * 30], truncation=types_pb2.TruncationOptions(max_length=24)
    )
    with pytest.raises(RequestError) as raised:
        refuse_failed(task.prepare(texts("dog", "fox")).failed)
    assert [each.field for each in raised.value.violations] == ["options.labels[0]", "options.labels[2]"]
    refused_texts = parse(stub, labels=["fox"], truncation=types_pb2.TruncationOptions(max_length=24, strategy=1))  # type: ignore[arg-type]
    failed = refused_texts.prepare(texts("dog", "dog " * 30)).failed
    assert {index: error.violations[0].field for index, error in failed.items()} == {1: "inputs.texts[1]"}


def test_long_messages_are_prepared_in_parts(stub: Stub) -> None:
    task = parse(stub)
    assert task.rows_per_item == 3
    sent = texts(*[f"text {i}" for i in range(7)], path="items.inputs", field="items.inputs.texts", bad=[4])
    parts = list(in_parts(sent, 3))
    assert [part.offset for part in parts] == [0, 3, 6]
    rows = [task.prepare(part) for part in parts]
    assert [each.truncated.size for each in rows] == [3, 3, 1]
    assert rows[1].failed[1].violations[0].field == "items.inputs.texts[4]"
    with pytest.raises(RequestError) as raised:
        task.prepare(texts(*["a"] * 400))
    assert refused(raised) == ("INVALID_ARGUMENT", "REQUEST_TOO_LARGE", "inputs")
