"""Answers of task heads: columns for several items to a value for each item. All raise Internal where the columns make
no sense, or are not those of so many items.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from bertstream.client._errors import unexpected_response
from bertstream.client._tasks.types import Answer, Candidate, Entity, Label, TextScore
from bertstream.v1 import tasks_pb2 as tasks


def candidates_of(message: tasks.MaskCandidates, items: int) -> list[list[list[Candidate]]]:
    """For each text, for each of its masks, the candidates."""
    masks = len(message.mask_positions)
    _check(message.mask_counts, items, "mask_counts")
    _check(message.candidate_counts, masks, "candidate_counts")
    sequences: Sequence[str] = message.sequences or [""] * len(message.token_ids)
    positions = [
        position
        for position, count in zip(message.mask_positions, message.candidate_counts, strict=True)
        for _ in range(count)
    ]
    candidates = _joined(Candidate, message.tokens, message.token_ids, message.scores, sequences, positions)
    return split(split(candidates, message.candidate_counts), message.mask_counts)


def scores_of(message: tasks.TextScores, items: int) -> list[TextScore]:
    """The score of each text."""
    _check(message.scores, items, "scores")
    _check(message.token_counts, items, "token_counts")
    ids = split(np.fromiter(message.token_ids, np.int32), message.token_counts)
    logarithms = split(np.fromiter(message.log_probabilities, np.float32), message.token_counts)
    return _joined(TextScore, message.scores, ids, logarithms)


def probabilities_of(message: tasks.NextSentences, items: int) -> list[float]:
    """The probability of each pair."""
    _check(message.probabilities, items, "probabilities")
    return list(message.probabilities)


def labels_of(message: tasks.TextLabels, items: int) -> list[list[Label]]:
    """The checkpoint's labels of each text."""
    _check(message.label_counts, items, "label_counts")
    names = _named(message.labels, message.label_ids)
    return split(_joined(Label, names, message.scores, message.label_ids), message.label_counts)


def zero_shot_labels_of(message: tasks.ZeroShotLabels, items: int, labels: Sequence[str]) -> list[list[Label]]:
    """The caller's labels of each text."""
    names = _named(labels, message.label_indexes)
    found = _joined(Label, names, message.scores, message.label_indexes)
    return split(found, [message.label_count] * items)


def relevances_of(message: tasks.Relevances, items: int) -> list[float]:
    """The score of each pair of query and document."""
    _check(message.scores, items, "scores")
    return list(message.scores)


def entities_of(message: tasks.Entities, items: int) -> list[list[Entity]]:
    """The entities of each text."""
    _check(message.entity_counts, items, "entity_counts")
    count = len(message.labels)
    starts, ends = message.starts or [-1] * count, message.ends or [-1] * count
    indexes: Sequence[int | None] = message.token_indexes or [None] * count
    found = _joined(Entity, message.labels, message.scores, message.words, starts, ends, indexes)
    return split(found, message.entity_counts)


def answers_of(message: tasks.Answers, items: int) -> list[list[Answer]]:
    """The answers to each question."""
    _check(message.answer_counts, items, "answer_counts")
    found = _joined(Answer, message.texts, message.scores, message.starts, message.ends)
    return split(found, message.answer_counts)


def best_answers_of(message: tasks.Answers, items: int) -> list[Answer]:
    """The best answer to each question; an empty one, with a score of 0, where there is none at all."""
    return [answers[0] if answers else Answer("", 0.0, 0, 0) for answers in answers_of(message, items)]


def choices_of(message: tasks.Choices, items: int) -> list[list[float]]:
    """The probabilities of each question's choices."""
    _check(message.choice_counts, items, "choice_counts")
    return split(list(message.probabilities), message.choice_counts)


def split(values: Any, counts: Iterable[int]) -> list[Any]:
    """Values that lie end to end, in parts of these lengths."""
    ends = list(accumulate(counts, initial=0))
    if ends[-1] != len(values) or any(start > end for start, end in pairwise(ends)):
        raise unexpected_response(f"counts that add up to {ends[-1]} for {len(values)} values")
    return [values[start:end] for start, end in pairwise(ends)]


def _joined(kind: Any, *columns: Any) -> list[Any]:
    """An object of each row of the columns."""
    if len({len(column) for column in columns}) > 1:
        raise unexpected_response(f"columns that differ in length: {[len(column) for column in columns]}")
    return [kind(*row) for row in zip(*columns, strict=True)]


def _named(names: Sequence[str], numbers: Sequence[int]) -> list[str]:
    if any(not 0 <= number < len(names) for number in numbers):
        raise unexpected_response(f"a label beyond the {len(names)} there are")
    return [names[number] for number in numbers]


def _check(column: Sequence[object], count: int, name: str) -> None:
    if len(column) != count:
        raise unexpected_response(f"{len(column)} {name} where there are {count}")
