"""The spans of a text that may be entities are those above the threshold, whatever is computed beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bertstream.workers.contract import Batch, HeadOptions, OutputOptions, Spans, Work
from bertstream.workers.engine.batch import prepare
from bertstream.workers.engine.engine import run
from tests.support.works import LAST_LAYER, FakeProgram

WIDTH = 3  # the most words of a span


class SpanProgram(FakeProgram):
    """Give a span a logit that follows from the states of its ends and of the label."""

    def __init__(self) -> None:
        super().__init__()
        self.texts_run: list[tuple[int, int]] = []  # the labels and the words of each

    def span_logits(self, head: str, states: Tensor, labels: int) -> Tensor:
        assert head == "zero_shot_entities"
        self.texts_run.append((labels, len(states) - labels))
        return logits(states, labels)


def logits(states: Tensor, labels: int) -> Tensor:
    named, words = states[:labels].sum(1), states[labels:].sum(1)
    ends = (torch.arange(len(words))[:, None] + torch.arange(WIDTH)).clamp(max=len(words) - 1)
    return torch.sin(100 * (words[:, None, None] + 2 * words[ends][:, :, None] + 3 * named))


def work_of(number: int, texts: list[list[int]], labels: int, **options: Any) -> Work:
    """Make work of texts of these places of labels and words, each with one token behind the last."""
    lengths = [max(places) + 2 for places in texts]
    starts = np.array([place for places in texts for place in places], np.int32)
    spans = Spans(np.array([len(places) for places in texts], np.int32), starts, np.ones_like(starts))
    ids = np.arange(sum(lengths), dtype=np.int32) * 7 % 23
    head = HeadOptions("zero_shot_entities", labels=labels, **options)
    batch = Batch(ids, np.array(lengths, np.int32), spans=spans)
    return Work(number, batch, OutputOptions(("entity_spans",), head=head))


def expected(program: SpanProgram, work: Work) -> list[tuple[int, int, int, int, float]]:
    """Return text, first word, last word, label and score of each span."""
    options, spans, found = work.output_options.head, work.batch.spans, []
    assert options is not None
    assert spans is not None
    ids, first = torch.from_numpy(work.batch.ids), 0
    (states,) = program.hidden_states(ids, None, work.batch.lengths.tolist(), [LAST_LAYER])
    begins = np.cumsum(work.batch.lengths) - work.batch.lengths
    for text, count in enumerate(spans.counts.tolist()):
        places = spans.starts[first : first + count] + begins[text]
        first += count
        if count == options.labels:
            continue
        scores = logits(states[places], options.labels).sigmoid()
        spots = [(a, a + b, c) for a, b, c in (scores > options.threshold).nonzero().tolist()]
        fit = [(text, a, b, c, float(scores[a, b - a, c])) for a, b, c in spots if b < count - options.labels]
        best = sorted(fit, key=lambda span: -span[4])[: options.top_k or None]
        found += sorted(best)
    return found


def listed(found: dict[str, Tensor]) -> list[tuple[int, int, int, int, float]]:
    texts = np.repeat(np.arange(len(found["entity_spans.counts"])), found["entity_spans.counts"].numpy())
    columns = (found[f"entity_spans.{name}"].tolist() for name in ("starts", "ends", "labels", "scores"))
    return list(zip(texts.tolist(), *columns, strict=True))


@pytest.mark.parametrize("options", [{}, {"threshold": 0.6}, {"threshold": 0.999}, {"threshold": 0.4, "top_k": 3}])
def test_spans_above_the_threshold(options: dict[str, float]) -> None:
    texts = [[1, 3, 6, 7, 9, 10], [2, 3], [1, 2, 4], [1, 4, 6, 7, 8, 9, 12]]
    works = [work_of(1, texts, 2, **options), work_of(2, [[0, 1, 2, 3]], 1), work_of(3, texts[1:3], 2)]
    program = SpanProgram()
    found = run(program, prepare(works, LAST_LAYER))
    assert sorted(program.texts_run) == [(1, 3), (2, 1), (2, 1), (2, 4), (2, 5)]
    for work, each in zip(works, found, strict=True):
        assert listed(each) == expected(SpanProgram(), work)
        assert {name: values.dtype for name, values in each.items()} == {
            **{f"entity_spans.{name}": torch.int32 for name in ("starts", "ends", "labels", "counts")},
            "entity_spans.scores": torch.float32,
        }
    assert len(listed(found[1])) > 3
