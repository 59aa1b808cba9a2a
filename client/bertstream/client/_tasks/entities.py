"""The task "entities": entities in texts, or labels of their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from bertstream.client._calls.keywords import CallOptions, StreamOptions
from bertstream.client._columns import check, joined, split
from bertstream.client._enums import value_of
from bertstream.client._fields import optional_whole, set_fields, strings_of
from bertstream.client._tasks.items import WINDOWS, preparing
from bertstream.client._tasks.options import TaskOptions, offset_unit_of, with_common
from bertstream.client._tasks.task import Task
from bertstream.client._types import OffsetUnit
from bertstream.v1 import tasks_pb2 as tasks

Aggregation: TypeAlias = Literal["none", "simple", "first", "average", "max"]


@dataclass(frozen=True, slots=True)
class Entity:
    """An entity in a text; with `aggregation="none"` a token with its label."""

    label: str
    """The label, without the prefix B- or I- unless the aggregation is none; or one of the `labels` that were given."""
    score: float
    word: str
    """The token or tokens, as the tokenizer spells them; with `labels`, the words as they stand in the text."""
    start: int
    """Where it starts in the text that was sent (for a list of words: in the words joined by spaces); -1 for ids."""
    end: int
    """Where it ends there, exclusive; -1 for token ids."""
    token_index: int | None
    """The index of the token in its text with `aggregation="none"`, else None."""


class EntityOptions(TaskOptions, total=False):
    """Keyword arguments of `entities`: those of TaskOptions, and these."""

    aggregation: Aggregation | None
    """How tokens become entities: simple (the default), first, average or max; none returns each token's label."""
    ignored_labels: Sequence[str] | None
    """Labels to leave out; None for "O", [] to keep all."""
    windows: bool
    """Whether to read long texts in overlapping windows of `max_length` rather than cut them."""
    stride: int | None
    """The tokens that two neighbouring windows share; None for a quarter of a window."""
    offset_unit: OffsetUnit | None
    """What `start` and `end` count: code_points (the default, as Python strings do), utf16_units or utf8_bytes."""
    labels: Sequence[str] | None
    """What to look for, in plain words, for a model that reads labels with the text (GLiNER); others have their own."""
    threshold: float | None
    """What the score of an entity must be above, with `labels`; None for 0.5."""
    nested: bool
    """Whether entities may lie within each other, with `labels`."""
    multi_label: bool
    """Whether the same words may be an entity of several of the `labels`."""


class EntityCall(CallOptions, EntityOptions, total=False):
    """Keyword arguments of `entities`, for type checkers."""


class EntityStream(StreamOptions, EntityOptions, total=False):
    """Keyword arguments of a stream of "entities"."""


def entities_task(
    *,
    aggregation: Aggregation | None = None,
    ignored_labels: Sequence[str] | None = None,
    windows: bool = False,
    stride: int | None = None,
    offset_unit: OffsetUnit | None = None,
    labels: Sequence[str] | None = None,
    threshold: float | None = None,
    nested: bool = False,
    multi_label: bool = False,
    **given: Any,
) -> Task[list[Entity]]:
    """Return the task for EntityOptions. Raises ValueError or TypeError for unusable values."""
    if stride is not None and not windows:
        raise ValueError("stride goes with windows=True")
    options = set_fields(
        tasks.ClassifyTokenOptions(offset_unit=offset_unit_of(offset_unit), labels=strings_of(labels, "labels")),
        windows=windows,
        stride=optional_whole(stride, "stride", 0),
        threshold=threshold,
        nested=nested,
        multi_label=multi_label,
    )
    options.ignored_labels.extend(strings_of(ignored_labels, "ignored_labels"))
    options.keep_all_labels = ignored_labels is not None and not options.ignored_labels
    if aggregation is not None:
        options.aggregation = value_of(tasks.AggregationStrategy, aggregation, "aggregation")
    return Task(
        with_common(options, **given),
        tasks.ClassifyTokensRequest,
        tasks.Entities,
        preparing("entities", ("texts", "word_lists", "token_ids"), WINDOWS if windows else 1),
        entities_of,
        renamed=_without_aggregation,
    )


def _without_aggregation(options: tasks.ClassifyTokenOptions) -> dict[str, Any]:
    """Say that there is none where the labels are the caller's."""
    return {} if options.aggregation else {"aggregation": ""}


def entities_of(message: tasks.Entities, items: int) -> list[list[Entity]]:
    """Return the entities of each text."""
    check(message.entity_counts, items, "entity_counts")
    count = len(message.labels)
    starts, ends = message.starts or [-1] * count, message.ends or [-1] * count
    indexes: Sequence[int | None] = message.token_indexes or [None] * count
    found = joined(Entity, message.labels, message.scores, message.words, starts, ends, indexes)
    return split(found, message.entity_counts)
