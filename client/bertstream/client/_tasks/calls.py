"""Keyword arguments of the task heads' methods, as type checkers see them: options of the task, and of the call or the
stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Required

from bertstream.client._calls.keywords import CallOptions, StreamOptions
from bertstream.client._tasks.options import (
    AnswerOptions,
    ClassifyOptions,
    EntityOptions,
    FillMaskOptions,
    RankOptions,
    TaskOptions,
    ZeroShotOptions,
)


class TaskCall(CallOptions, TaskOptions, total=False):
    """Of a task without options of its own."""


class FillMaskCall(CallOptions, FillMaskOptions, total=False):
    """Of `fill_mask`."""


class ClassifyCall(CallOptions, ClassifyOptions, total=False):
    """Of `classify`."""


class ZeroShotCall(CallOptions, ZeroShotOptions, total=False):
    """Of `zero_shot`."""


class EntityCall(CallOptions, EntityOptions, total=False):
    """Of `entities`."""


class AnswerCall(CallOptions, AnswerOptions, total=False):
    """Of `answer`."""


class TaskStream(StreamOptions, TaskOptions, total=False):
    """Of a stream of a task without options of its own."""


class FillMaskStream(StreamOptions, FillMaskOptions, total=False):
    """Of a stream of "fill_mask"."""


class ClassifyStream(StreamOptions, ClassifyOptions, total=False):
    """Of a stream of "classify"."""


class ZeroShotStream(StreamOptions, ZeroShotOptions, total=False):
    """Of a stream of "zero_shot"."""

    labels: Required[Sequence[str]]


class RerankStream(StreamOptions, RankOptions, total=False):
    """Of a stream of "rerank"."""


class EntityStream(StreamOptions, EntityOptions, total=False):
    """Of a stream of "entities"."""


class AnswerStream(StreamOptions, AnswerOptions, total=False):
    """Of a stream of "answer" that gives one answer a question."""


class AnswersStream(AnswerStream):
    """Of a stream of "answer" that gives several."""

    top_k: Required[int]
