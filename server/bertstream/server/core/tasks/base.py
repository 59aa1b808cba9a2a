"""What all tasks share: items become rows for the workers, and the rows' numbers become the items' answers.

A task is made for one call or stream, when its options have been found valid. It is pure: no task talks to a worker,
knows of calls or streams, or waits. Its methods run in threads, so they must not change it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.dispatch.cutting import part
from bertstream.server.core.errors import RequestError
from bertstream.server.core.layout import Tensors
from bertstream.server.core.sent import SentItems
from bertstream.server.core.tokenization import TextTokenizer
from bertstream.server.settings import Limits
from bertstream.workers.contract import Batch, OutputOptions
from bertstream.workers.programs.description import ModelDescription

Context = TypeVar("Context")

ALL_KINDS = ("texts", "pairs", "word_lists", "token_ids")


class HeadModel(Protocol):
    """What a task needs of a served model."""

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
    """What the n items of a message become: r rows, each a text for the workers. Every item has rows or an error."""

    batch: Batch  # [r]
    items: NDArray[np.int32]  # [r] the index of each row's item in the message, ascending
    failed: Mapping[int, RequestError]  # by the item's index in the message
    truncated: NDArray[np.bool_]  # [n]
    context: Context  # what the task's answer needs besides
    # [n] bytes that each item's answer has at least, where that can be much: what is too large is refused before it is
    # computed, and messages of a stream are cut by it.
    least_bytes: NDArray[np.int64] | None = None
    # [r] how many texts a row becomes in `Task.expand`, each as long as the row; one each where not given.
    copies: NDArray[np.int64] | None = None

    @property
    def costs(self) -> NDArray[np.int64]:
        """Tokens that the workers compute for each row. [r]"""
        lengths = self.batch.lengths.astype(np.int64)
        return lengths if self.copies is None else lengths * self.copies


@dataclass(frozen=True, slots=True)
class Share:
    """Some items of a message, all of whose rows are computed."""

    items: NDArray[np.int64]  # [m] their indexes in the message, ascending
    rows: NDArray[np.int64]  # [q] the indexes of all their rows in Rows, ascending
    row_counts: NDArray[np.int64]  # [m] how many of these each item has; they add up to q
    tensors: Tensors  # of these q rows (or their copies) end to end, as in contract.Result; empty where those are none


@dataclass(frozen=True)
class Task(ABC, Generic[Context]):
    """One task with its options."""

    kinds: ClassVar[Sequence[str]] = ALL_KINDS  # of items that it takes

    model: HeadModel
    output_options: OutputOptions
    priority: int
    rows_per_item: int = field(default=1, kw_only=True)  # where it is one number: long messages are prepared in parts

    @abstractmethod
    def prepare(self, sent: SentItems) -> Rows[Context]:
        """Tokenizes and lays out the rows. Raises RequestError where the message as a whole makes no sense.

        What is wrong with one item is among the failed, as an error that names `sent.at(index)`; items that are not
        UTF-8 must be among them too (tasks.texts.tokenize sees to that). The items are of a kind that the task takes.
        """

    def expand(self, rows: Rows[Context], first: int, last: int) -> Batch:
        """Return the texts for the workers that the rows from `first` up to `last` become. Made when they are sent."""
        return part(rows.batch, first, last)

    @abstractmethod
    def answer(self, rows: Rows[Context], share: Share) -> object:
        """The answers to some items, as columns: a frozen dataclass of lists and arrays, which protocols write."""


def pick(sequence: Sequence[str], indexes: NDArray[np.integer]) -> list[str]:
    """Those at these indexes."""
    return [sequence[i] for i in indexes.tolist()]
