"""What all tasks share: they turn items into rows for the workers, and the workers' outputs into answers.

A task is made for one call or stream, from options that are valid. It is pure: no task talks to a worker, knows of
calls or streams, or waits. Its methods run in threads, so they must not change it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.dispatch.cutting import part
from bertstream.server.core.errors import RequestError, head_not_available
from bertstream.server.core.layout import Tensors
from bertstream.server.core.sent import SentItems
from bertstream.server.core.tokenization import TextTokenizer
from bertstream.server.settings import Limits
from bertstream.workers.contract import Batch, HeadName, OutputOptions
from bertstream.workers.programs.description import ModelDescription

Context = TypeVar("Context")

ALL_KINDS = ("texts", "pairs", "word_lists", "token_ids")


class HeadModel(Protocol):
    """The part of a served model that a task needs."""

    @property
    def name(self) -> str: ...
    @property
    def description(self) -> ModelDescription: ...
    @property
    def limits(self) -> Limits: ...
    @property
    def tokenizer(self) -> TextTokenizer: ...


@dataclass(frozen=True, slots=True)
class Rows(Generic[Context]):
    """The n items of a message as r rows, each a text for the workers; every item has rows or an error."""

    batch: Batch  # [r]
    items: NDArray[np.int32]  # [r] the index of each row's item in the message, ascending
    failed: Mapping[int, RequestError]  # by the item's index in the message
    truncated: NDArray[np.bool_]  # [n]
    context: Context  # what else `Task.answer` needs
    # [n] the fewest bytes of each item's answer, where answers can be large: those that are too large are refused
    # before they are computed, and a stream's messages are cut by these bytes.
    least_bytes: NDArray[np.int64] | None = None
    # [r] into how many texts, each as long as the row, `Task.expand` turns each row; where not given, one.
    copies: NDArray[np.int64] | None = None

    @property
    def costs(self) -> NDArray[np.int64]:
        """Return the number of tokens that the workers compute for each row: [r]."""
        lengths = self.batch.lengths.astype(np.int64)
        return lengths if self.copies is None else lengths * self.copies


@dataclass(frozen=True, slots=True)
class Share:
    """Some items of a message, all of whose rows are computed."""

    items: NDArray[np.int64]  # [m] their indexes in the message, ascending
    rows: NDArray[np.int64]  # [q] the indexes of all their rows in Rows, ascending
    row_counts: NDArray[np.int64]  # [m] how many of these rows each item has; they add up to q
    tensors: Tensors  # of these q rows (or their copies) end to end, as in contract.Result; empty where there are none


@dataclass(frozen=True)
class Task(ABC, Generic[Context]):
    """One task with its options."""

    kinds: ClassVar[Sequence[str]] = ALL_KINDS  # kinds of items that it takes

    model: HeadModel
    output_options: OutputOptions
    priority: int
    rows_per_item: int = field(default=1, kw_only=True)  # where it is fixed: long messages are prepared in parts

    @abstractmethod
    def prepare(self, sent: SentItems) -> Rows[Context]:
        """Tokenize and lay out the rows; raise RequestError where the message as a whole makes no sense.

        An item that is wrong by itself is among the failed, with an error that names `sent.at(index)`; so is one that
        is not UTF-8 (tasks.texts.tokenize does both). The items are of a kind that the task takes.
        """

    def expand(self, rows: Rows[Context], first: int, last: int) -> Batch:
        """Return the workers' texts for the rows from `first` up to `last`; called only when they are sent."""
        return part(rows.batch, first, last)

    @abstractmethod
    def answer(self, rows: Rows[Context], share: Share) -> object:
        """Return the answers to some items as columns: a frozen dataclass of lists and arrays, for protocols."""

    def least_bytes(self, share: Share) -> int:
        """Return how many bytes an answer of this share has at least, where only the computed numbers tell; else 0."""
        return 0


def require_head(description: ModelDescription, head: HeadName) -> None:
    """Raise HEAD_NOT_AVAILABLE if the model lacks the head."""
    if head not in description.heads:
        raise head_not_available(head, description.heads)


def pick(sequence: Sequence[str], indexes: NDArray[np.integer]) -> list[str]:
    """Return the elements at these indexes."""
    return [sequence[i] for i in indexes.tolist()]
