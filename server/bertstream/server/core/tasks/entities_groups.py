"""Finds the labels of words from the scores of their tokens, and entities from words of one label.

The rules are those of transformers' token classification pipeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Aggregation = Literal["none", "simple", "first", "average", "max"]
Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Tags:
    """The meaning of the L labels of a checkpoint in the B- and I- scheme."""

    tags: Ints  # [L]: labels of one tag belong together
    begins: NDArray[np.bool_]  # [L]: whether this label always begins a new entity
    groups: tuple[str, ...]  # [L]: the name of an entity that starts with this label

    @classmethod
    def of(cls, labels: Sequence[str]) -> Tags:
        """Read the labels; one without B- or I- counts as I-, and an entity's name follows its label's first "-"."""
        tags = [label[2:] if label.startswith(("B-", "I-")) else label for label in labels]
        number = {tag: i for i, tag in enumerate(dict.fromkeys(tags))}
        begins = np.array([label.startswith("B-") for label in labels], np.bool_)
        groups = tuple(label.split("-", 1)[-1] for label in labels)
        return cls(np.array([number[tag] for tag in tags], np.int64), begins, groups)


def label_words(scores: Floats, firsts: Ints, aggregation: Aggregation) -> tuple[Ints, Floats]:
    """Return the label of each word, and its score.

    scores: [K, L] of tokens, firsts: [W], the first token of each word -> [W], [W]. Where every token is a word, all
    strategies give the same.
    """
    if not firsts.size:
        return firsts, np.zeros(0, np.float32)
    if aggregation == "average":
        counts = np.diff(firsts, append=len(scores)).astype(np.float32)
        scores = (np.add.reduceat(scores, firsts, axis=0) / counts[:, None]).astype(np.float32)
    elif aggregation == "max":
        scores = scores[_best_tokens(scores.max(axis=1), firsts)]
    else:
        scores = scores[firsts]
    labels = scores.argmax(axis=1)
    return labels, scores[np.arange(len(labels)), labels]


def _best_tokens(best: Floats, firsts: Ints) -> Ints:
    """Return the token with the highest score of each word, the first of equal ones: [K], [W] -> [W]."""
    highest = np.repeat(np.maximum.reduceat(best, firsts), np.diff(firsts, append=len(best)))
    candidates = np.flatnonzero(~(best < highest))  # true for NaN too, so that each word has one
    return candidates[np.searchsorted(candidates, firsts)]


def group_words(labels: Ints, rows: Ints, tags: Tags) -> Ints:
    """Return the index of each entity's first word: labels, rows [W] -> [E]."""
    starts = np.ones(labels.size, np.bool_)
    tag = tags.tags[labels]
    starts[1:] = (tag[1:] != tag[:-1]) | tags.begins[labels[1:]] | (rows[1:] != rows[:-1])
    return np.flatnonzero(starts)


def mean_scores(scores: Floats, firsts: Ints) -> Floats:
    """Return the mean over each entity's words: [W], [E] -> [E]."""
    if not firsts.size:
        return np.zeros(0, np.float32)
    sums = np.add.reduceat(scores.astype(np.float64), firsts)
    return (sums / np.diff(firsts, append=len(scores))).astype(np.float32)


class FoundEntities(NamedTuple):
    """E entities among K tokens."""

    firsts: Ints  # [E]
    lasts: Ints  # [E], exclusive
    labels: Ints  # [E]: that of its first word
    scores: Floats  # [E]

    def at(self, indexes: Ints | NDArray[np.bool_]) -> FoundEntities:
        """Return the entities at these indexes."""
        return FoundEntities(self.firsts[indexes], self.lasts[indexes], self.labels[indexes], self.scores[indexes])

    def and_also(self, others: FoundEntities) -> FoundEntities:
        """Return these entities, then the others."""
        return FoundEntities(
            np.concatenate([self.firsts, others.firsts]),
            np.concatenate([self.lasts, others.lasts]),
            np.concatenate([self.labels, others.labels]),
            np.concatenate([self.scores, others.scores]),
        )


def find_entities(
    scores: Floats, begins: NDArray[np.bool_], owners: Ints, aggregation: Aggregation, tags: Tags
) -> FoundEntities:
    """Return all entities of texts that lie end to end, in order, including those that will be ignored.

    scores: [K, L] of tokens; begins: [K], whether each begins a word (or a text); owners: [K], the text of each.
    """
    firsts = np.flatnonzero(begins)  # [W]
    labels, word_scores = label_words(scores, firsts, aggregation)
    groups = np.arange(firsts.size) if aggregation == "none" else group_words(labels, owners[firsts], tags)
    starts = firsts[groups]
    return FoundEntities(
        starts, np.append(starts[1:], len(scores))[: starts.size], labels[groups], mean_scores(word_scores, groups)
    )


def longest(found: FoundEntities, starts: Ints, ends: Ints) -> FoundEntities:
    """Return the entities that remain of those that several windows found among the same tokens, in order.

    Of overlapping ones, the one with the most characters remains, as in transformers; of equal ones the one with the
    most tokens, then with the higher score, then the earlier one. starts, ends: [K] of tokens.
    """
    if not found.firsts.size:
        return found
    order = np.argsort(found.firsts, kind="stable")
    first, last = found.firsts[order].tolist(), found.lasts[order].tolist()
    characters = ends[found.lasts[order] - 1] - starts[found.firsts[order]]
    ranks = list(
        zip(
            characters.tolist(), (found.lasts - found.firsts)[order].tolist(), found.scores[order].tolist(), strict=True
        )
    )
    kept = [0]
    for each in range(1, order.size):
        if first[each] >= last[kept[-1]]:
            kept.append(each)
        elif ranks[each] > ranks[kept[-1]]:
            kept[-1] = each
    return found.at(order[kept])
