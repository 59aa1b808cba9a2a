"""Masked copies of texts, and their sums."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from bertstream.server.core.sent import Sent, SentItems
from bertstream.server.core.tasks.base import Rows, Share
from bertstream.server.core.tasks.likelihoods import ScoreTexts
from bertstream.server.core.tokenization import Texts
from bertstream.server.protocols.bertstream_v1.tasks.likelihoods import parse_score_text
from bertstream.server.protocols.bertstream_v1.tasks.writing import write
from bertstream.v1 import tasks_pb2, types_pb2
from bertstream.workers.contract import INTERACTIVE
from tests.server.core.tasks.conftest import Stub
from tests.server.core.tasks.stubs import prepare

Checkpoint = Callable[[str], Path]


def task_of(stub: Stub, family: str, **options: Any) -> ScoreTexts:
    model = stub(family, "fill_mask")
    return parse_score_text(tasks_pb2.ScoreTextOptions(**options), model, INTERACTIVE, "options").task


def texts(*listed: str) -> SentItems:
    return Sent(Texts(listed))


def share(rows: Rows[Any], first: int, last: int, values: list[float]) -> Share:
    items = rows.items[first:last].astype(np.int64)
    tensors = {"token_log_probabilities": np.array(values, np.float32)} if values else {}
    return Share(items, np.arange(first, last), np.ones_like(items), tensors)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_each_token_is_masked_in_turn(stub: Stub, checkpoint: Checkpoint, family: str) -> None:
    task, own = task_of(stub, family), AutoTokenizer.from_pretrained(checkpoint(family))
    pairs = types_pb2.TextPairs(first_texts=["the fox", "a"], second_texts=["dog.", "b"])
    rows = prepare(task, types_pb2.TextBatch(pairs=pairs))
    batch = task.expand(rows, 0, 2)
    expected: list[list[int]] = []
    scored: list[int] = []
    types: list[int] = []
    for first, second in zip(pairs.first_texts, pairs.second_texts, strict=True):
        plain = own(first, second, return_special_tokens_mask=True, return_token_type_ids=family == "bert")
        for place, special in enumerate(plain["special_tokens_mask"]):
            if not special:
                ids = list(plain["input_ids"])
                scored.append(ids[place])
                ids[place] = own.mask_token_id
                expected.append(ids)
                types += plain.get("token_type_ids", [0] * len(ids))
    parts = np.split(batch.ids, np.cumsum(batch.lengths)[:-1])
    assert [part.tolist() for part in parts] == expected
    assert (batch.type_ids if batch.type_ids is not None else np.zeros_like(batch.ids)).tolist() == types
    assert batch.spans is not None
    assert batch.spans.ids is not None
    assert batch.spans.ids.tolist() == scored
    assert batch.spans.counts.tolist() == batch.spans.lengths.tolist() == [1] * len(expected)
    assert [part[place] for part, place in zip(parts, batch.spans.starts, strict=True)] == [own.mask_token_id] * len(
        parts
    )


def test_a_part_of_the_rows_makes_the_same_copies(stub: Stub) -> None:
    task = task_of(stub, "bert")
    rows = task.prepare(texts("the fox", "a lazy dog", "sleeps in the sun"))
    whole, part = task.expand(rows, 0, 3), task.expand(rows, 1, 3)
    assert rows.copies is not None
    before = int(rows.costs[0])
    assert whole.ids[before:].tolist() == part.ids.tolist()
    assert part.lengths.size == int(rows.copies[1:].sum())
    assert part.ids.size == int(rows.costs[1:].sum())


def test_scores_are_sums_over_the_scored_tokens(stub: Stub) -> None:
    task = task_of(stub, "bert")
    rows = task.prepare(texts("the fox", "", "dog"))
    assert rows.copies is not None
    assert rows.copies.tolist() == [2, 0, 1]
    scores = write(task.answer(rows, share(rows, 0, 3, [-1.5, -0.25, -4.0])))
    assert isinstance(scores, tasks_pb2.TextScores)
    assert list(scores.scores) == [-1.75, 0.0, -4.0]
    assert list(scores.token_counts) == [2, 0, 1]
    assert list(scores.token_ids) == task.model.tokenizer.ids_of(["the", "fox", "dog"])
    assert list(scores.log_probabilities) == [-1.5, -0.25, -4.0]
    last = write(task.answer(rows, share(rows, 2, 3, [-4.0])))
    assert isinstance(last, tasks_pb2.TextScores)
    assert (list(last.scores), list(last.token_ids)) == ([-4.0], task.model.tokenizer.ids_of(["dog"]))


def test_an_empty_text_has_nothing_to_score(stub: Stub) -> None:
    task = task_of(stub, "bert")
    rows = task.prepare(texts(""))
    assert task.expand(rows, 0, 1).lengths.size == 0
    scores = write(task.answer(rows, share(rows, 0, 1, [])))
    assert isinstance(scores, tasks_pb2.TextScores)
    assert (list(scores.scores), list(scores.token_counts)) == ([0.0], [0])


def test_special_ids_are_not_scored(stub: Stub) -> None:
    task = task_of(stub, "bert")
    own = task.model.description.special_tokens
    ids = types_pb2.TokenIdLists(token_ids=[own["cls"][1], 9, own["sep"][1], 10, own["sep"][1]], lengths=[5])
    rows = prepare(task, types_pb2.TextBatch(token_ids=ids))
    assert rows.context.places.tolist() == [1, 3]
    assert rows.costs.tolist() == [10]
