"""What task heads give back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Generic, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from bertstream.client._types import ItemError
from bertstream.client._usage import Timings, Usage

R = TypeVar("R")

ScoreFunction: TypeAlias = Literal["softmax", "sigmoid", "none"]
Aggregation: TypeAlias = Literal["none", "simple", "first", "average", "max"]
TaskName: TypeAlias = Literal[
    "fill_mask", "score_text", "next_sentence", "classify", "zero_shot", "rerank", "entities", "answer", "choose"
]
"""The tasks by the names of the client's methods."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What could stand in a mask's place."""

    token: str
    """As text."""
    token_id: int
    score: float
    """Its probability, other masks of the text being masks still."""
    sequence: str
    """The text with the candidate in the mask's place, as the tokenizer writes it; empty with `sequences=False`."""
    position: int
    """The place of the mask among the text's tokens."""


@dataclass(frozen=True, slots=True, eq=False)
class TextScore:
    """How likely a text is, token by token, each given all others (pseudo-log-likelihood). `float()` gives `score`."""

    score: float
    """The sum of log_probabilities."""
    token_ids: NDArray[np.int32]
    """[n]: the tokens, without special ones."""
    log_probabilities: NDArray[np.float32]
    """[n]: of each token, where it alone is masked; natural logarithms."""

    def __float__(self) -> float:
        return self.score

    @property
    def token_count(self) -> int:
        """How many tokens were scored."""
        return len(self.token_ids)

    @property
    def perplexity(self) -> float:
        """The pseudo-perplexity: e to the power of the mean negative log-probability. NaN where there is no token."""
        return math.exp(-self.score / self.token_count) if self.token_count else math.nan


@dataclass(frozen=True, slots=True)
class Label:
    """A label of a text."""

    label: str
    score: float
    label_id: int
    """Its number in the checkpoint; of `zero_shot` its place among the labels that were given."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """A document and its relevance to a query."""

    index: int
    """The document's place among those that were given."""
    score: float
    document: str


@dataclass(frozen=True, slots=True)
class Entity:
    """An entity in a text; with `aggregation="none"` a token with its label."""

    label: str
    """Without B- or I-, unless the aggregation is none."""
    score: float
    word: str
    """The token, or the tokens put together, as the tokenizer spells them."""
    start: int
    """Where it starts in the text as sent (of a list of words: in the words joined by blanks); -1 for token ids."""
    end: int
    """Where it ends, exclusive; -1 for token ids."""
    token_index: int | None
    """With `aggregation="none"`: its place among the text's tokens."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a question."""

    text: str
    """Part of the context as sent; empty for "no answer"."""
    score: float
    start: int
    """Where it starts in the context as sent."""
    end: int
    """Where it ends, exclusive."""


@dataclass(frozen=True, slots=True, eq=False)
class PredictedBatch(Generic[R]):
    """Answers for some items of a stream."""

    ids: NDArray[np.int64]
    """[k]: the caller's ids, or the items' positions in the input; without the items that failed."""
    results: list[R]
    """[k]: results[i] is that of ids[i]: what the task's method gives for one item, or for "rerank" a score."""
    errors: list[ItemError]
    """The items that failed (with `on_error="collect"`)."""
    usage: Usage
    """As in EncodedBatch."""
    timings: Timings
    """As in EncodedBatch."""

    def __len__(self) -> int:
        return len(self.ids)
