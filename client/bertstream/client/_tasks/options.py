"""Options of task heads: keyword arguments to messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict, TypeVar

from bertstream.client._common_options import set_truncation
from bertstream.client._enums import value_of
from bertstream.client._tasks.types import Aggregation, ScoreFunction
from bertstream.client._types import OffsetUnit, Priority, Truncation, TruncationSide
from bertstream.v1 import tasks_pb2 as tasks
from bertstream.v1 import tokenization_pb2 as tokenization
from bertstream.v1 import types_pb2 as types

O = TypeVar("O", bound=Any)  # noqa: E741 - an options message


class TaskOptions(TypedDict, total=False):
    """Keyword arguments of all task heads but `answer`. Those left out, and those that are None, are as the checkpoint
    or the server has them.
    """

    model: str
    """The model's name; empty for the default model."""
    max_length: int | None
    """Cut texts to so many tokens, special tokens included."""
    truncation: bool | Truncation | None
    """True or "longest_first" to cut long texts, False or "refuse" to fail on them, "only_first", "only_second"."""
    truncation_side: TruncationSide | None
    """The end that is cut off: right or left."""
    priority: Priority | None
    """interactive (the default but for bulk streams) or bulk."""


class FillMaskOptions(TaskOptions, total=False):
    """Keyword arguments of `fill_mask`: those of TaskOptions, and these."""

    top_k: int | None
    """Candidates for each mask; None for 5."""
    targets: Sequence[str | int] | None
    """The only candidates: words, each of which must be one token, or token ids. Scores stay what they are among the
    whole vocabulary."""
    sequences: bool
    """False to go without the filled sentences, which makes answers smaller."""


class ClassifyOptions(TaskOptions, total=False):
    """Keyword arguments of `classify`: those of TaskOptions, and these."""

    top_k: int | None
    """Labels for each text, the best first; None for all."""
    function: ScoreFunction | None
    """softmax (one label is true), sigmoid (any number is), or none (the raw numbers); None: as the checkpoint says."""


class ZeroShotOptions(TaskOptions, total=False):
    """Keyword arguments of `zero_shot`: those of TaskOptions, and these."""

    template: str
    """What is made of a label, with {} in its place; empty for "This example is {}."."""
    multi_label: bool
    """Whether any number of labels may be true, each scored on its own; else their scores add up to 1."""


class RankOptions(TaskOptions, total=False):
    """Keyword arguments of `rerank`, also in a stream: those of TaskOptions, and these."""

    function: ScoreFunction | None
    """softmax, sigmoid or none; None: as the checkpoint says, else sigmoid for one label, softmax for several."""
    label: str
    """The label whose score counts, where the checkpoint has several."""


class RerankOptions(RankOptions, total=False):
    """Keyword arguments of `rerank`: those of RankOptions, and `top_k`."""

    top_k: int | None
    """The best documents to return; None for all."""


class EntityOptions(TaskOptions, total=False):
    """Keyword arguments of `entities`: those of TaskOptions, and these."""

    aggregation: Aggregation | None
    """From tokens to entities: simple (the default), first, average, max, or none for each token's own label."""
    ignored_labels: Sequence[str] | None
    """Labels to leave out: None for "O", [] for no label."""
    windows: bool
    """Read long texts in overlapping windows of `max_length` rather than cut them."""
    stride: int | None
    """The tokens that two neighbouring windows share; None for a quarter of a window."""
    offset_unit: OffsetUnit | None
    """What `start` and `end` count: code_points (the default, as Python strings do), utf16_units or utf8_bytes."""


class AnswerOptions(TypedDict, total=False):
    """Keyword arguments of `answer`. Those left out, and those that are None, are as the server has them."""

    model: str
    """The model's name; empty for the default model."""
    max_length: int | None
    """The most tokens of a window: question, context and special tokens; None for 384, or less where the model's
    default_max_length is."""
    stride: int | None
    """The tokens that two neighbouring windows of a long context share; None for 128, or half a window."""
    max_answer_tokens: int | None
    """The most tokens of an answer; None for 15."""
    allow_no_answer: bool
    """Whether "no answer", an empty text at 0 to 0, may be an answer."""
    allow_partial_words: bool
    """Let an answer begin and end within a word."""
    offset_unit: OffsetUnit | None
    """What `start` and `end` count: code_points (the default, as Python strings do), utf16_units or utf8_bytes."""
    priority: Priority | None
    """interactive (the default but for bulk streams) or bulk."""


def fill_mask_options(
    *, top_k: int | None = None, targets: Sequence[str | int] | None = None, sequences: bool = True, **given: Any
) -> tasks.FillMaskOptions:
    """The message for FillMaskOptions. Like all here: ValueError and TypeError for what cannot be meant."""
    options = tasks.FillMaskOptions(top_k=_at_least_one(top_k, "top_k"), omit_sequences=not sequences)
    some = _listed(targets, "targets", (str, int))
    if targets is not None and not some:
        raise ValueError("targets is empty; leave it out for the whole vocabulary")
    options.targets.extend(target for target in some if isinstance(target, str))
    options.target_ids.extend(target for target in some if not isinstance(target, str))
    return _with_common(options, **given)


def score_text_options(**given: Any) -> tasks.ScoreTextOptions:
    """The message for TaskOptions of `score_text`."""
    return _with_common(tasks.ScoreTextOptions(), **given)


def next_sentence_options(**given: Any) -> tasks.NextSentenceOptions:
    """The message for TaskOptions of `next_sentence`."""
    return _with_common(tasks.NextSentenceOptions(), **given)


def classify_options(
    *, top_k: int | None = None, function: ScoreFunction | None = None, **given: Any
) -> tasks.ClassifyTextOptions:
    """The message for ClassifyOptions."""
    options = tasks.ClassifyTextOptions(top_k=_at_least_one(top_k, "top_k"), function=_function(function))
    return _with_common(options, **given)


def zero_shot_options(
    *, labels: Sequence[str], template: str = "", multi_label: bool = False, **given: Any
) -> tasks.ZeroShotOptions:
    """The message for ZeroShotOptions, and the labels."""
    some = _listed(labels, "labels", (str,))
    if not some:
        raise ValueError("labels is empty; give at least one")
    options = tasks.ZeroShotOptions(labels=some, hypothesis_template=template, multi_label=multi_label)
    return _with_common(options, **given)


def rerank_options(
    *, function: ScoreFunction | None = None, label: str = "", top_k: int | None = None, **given: Any
) -> tasks.RerankOptions:
    """The message for RerankOptions."""
    best = _at_least_one(top_k, "top_k")
    return _with_common(tasks.RerankOptions(function=_function(function), label=label, top_k=best), **given)


def entity_options(
    *,
    aggregation: Aggregation | None = None,
    ignored_labels: Sequence[str] | None = None,
    windows: bool = False,
    stride: int | None = None,
    offset_unit: OffsetUnit | None = None,
    **given: Any,
) -> tasks.ClassifyTokenOptions:
    """The message for EntityOptions."""
    if stride is not None and not windows:
        raise ValueError("stride goes with windows=True")
    options = tasks.ClassifyTokenOptions(windows=windows, stride=stride, offset_unit=_offset_unit(offset_unit))
    options.ignored_labels.extend(_listed(ignored_labels, "ignored_labels", (str,)))
    options.keep_all_labels = ignored_labels is not None and not options.ignored_labels
    if aggregation is not None:
        options.aggregation = value_of(tasks.AggregationStrategy, aggregation, "aggregation")
    return _with_common(options, **given)


def answer_options(
    *,
    model: str = "",
    max_length: int | None = None,
    stride: int | None = None,
    top_k: int | None = None,
    max_answer_tokens: int | None = None,
    allow_no_answer: bool = False,
    allow_partial_words: bool = False,
    offset_unit: OffsetUnit | None = None,
    priority: Priority | None = None,
) -> tasks.AnswerOptions:
    """The message for AnswerOptions, and how many answers."""
    return tasks.AnswerOptions(
        model=model,
        max_length=_at_least_one(max_length, "max_length"),
        priority=_priority(priority),
        stride=stride,
        top_k=_at_least_one(top_k, "top_k"),
        max_answer_tokens=_at_least_one(max_answer_tokens, "max_answer_tokens"),
        allow_no_answer=allow_no_answer,
        allow_partial_words=allow_partial_words,
        offset_unit=_offset_unit(offset_unit),
    )


def choose_options(**given: Any) -> tasks.ChooseOptions:
    """The message for TaskOptions of `choose`."""
    return _with_common(tasks.ChooseOptions(), **given)


def _with_common(
    options: O,
    *,
    model: str = "",
    max_length: int | None = None,
    truncation: bool | Truncation | None = None,
    truncation_side: TruncationSide | None = None,
    priority: Priority | None = None,
) -> O:
    """The options with those of TaskOptions too."""
    options.model, options.priority = model, _priority(priority)
    set_truncation(options.truncation, max_length, truncation, truncation_side)
    return options


def _at_least_one(number: int | None, name: str) -> int:
    """0 for None."""
    if number is not None and number < 1:
        raise ValueError(f"{name} must be at least 1")
    return number or 0


def _listed(values: Sequence[Any] | None, name: str, kinds: tuple[type, ...]) -> list[Any]:
    some = [] if values is None else list(values)
    if isinstance(values, str) or not all(isinstance(value, kinds) for value in some):
        raise TypeError(f"{name} must be a list of {' or '.join(kind.__name__ for kind in kinds)}, not {values!r}")
    return some


def _function(name: ScoreFunction | None) -> tasks.ScoreFunction.ValueType:
    if name is None:
        return tasks.SCORE_FUNCTION_UNSPECIFIED
    return value_of(tasks.ScoreFunction, name, "function")


def _offset_unit(name: OffsetUnit | None) -> tokenization.OffsetUnit.ValueType:
    if name is None:
        return tokenization.OFFSET_UNIT_UNSPECIFIED
    return value_of(tokenization.OffsetUnit, name, "offset_unit")


def _priority(name: Priority | None) -> types.Priority.ValueType:
    return types.PRIORITY_UNSPECIFIED if name is None else value_of(types.Priority, name, "priority")
