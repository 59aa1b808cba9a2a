"""Spans of texts: the caller's values, checked and turned into messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bertstream.client._fields import values_of
from bertstream.client._lists import plain_of
from bertstream.client._texts import INPUTS, Group, PreparedText, Text, field_path, prepare
from bertstream.v1 import encoding_pb2 as encoding

Spans: TypeAlias = Iterable[tuple[int, int]] | NDArray[np.integer[Any]]
"""[start, end) of each span of one text: pairs, or an array [spans, 2] such as the `offsets` of Tokens."""

_MOST = 2**31 - 1
_SPAN_BYTES = 10  # two numbers, of five bytes at most


@dataclass(frozen=True, slots=True, eq=False)
class SpannedText:
    """A text with its spans, for `forward_stream` with "pooled_spans" among the outputs."""

    text: Text
    spans: Spans


def spanned(texts: Sequence[Text], spans: Iterable[Spans]) -> list[SpannedText]:
    """Return each text with its spans. Raises ValueError unless there are as many lists of spans as texts."""
    lists = values_of(spans, "spans", "a list of (start, end) for each text")
    if len(lists) != len(texts):
        raise ValueError(f"spans must have one list of (start, end) a text: {len(lists)} for {len(texts)} texts")
    return [SpannedText(text, given) for text, given in zip(texts, lists, strict=True)]


def prepare_spanned(given: object, index: int, root: str = INPUTS) -> PreparedText:
    """Return a text and its spans, prepared for sending. Raises TypeError or ValueError for unusable ones."""
    if not isinstance(given, SpannedText):
        path = field_path(root, "texts", index)
        raise TypeError(f"{path}: pooled_spans needs a SpannedText(text, spans), not {type(given).__name__}")
    text = prepare(given.text, index, root)
    bounds = _bounds(given.spans, field_path(root, text.kind, index))
    return text._replace(spans=bounds, size=text.size + _SPAN_BYTES * len(bounds) + _SPAN_BYTES)


def span_lists(group: Group, unit: encoding.SpanUnit.ValueType) -> encoding.SpanLists:
    """Return the message with the spans of a group's texts."""
    bounds = group.spans
    lists = encoding.SpanLists(span_counts=[len(spans) for spans in bounds], unit=unit)
    lists.starts.extend(chain.from_iterable(spans[:, 0].tolist() for spans in bounds))
    lists.ends.extend(chain.from_iterable(spans[:, 1].tolist() for spans in bounds))
    return lists


def _bounds(spans: object, path: str) -> NDArray[np.int64]:
    try:
        plain = plain_of(spans)
        array = plain if isinstance(plain, np.ndarray) else np.asarray(list(_iterable(plain, path)))
    except ValueError:  # raised by NumPy for pairs of different lengths
        raise TypeError(f"{path}: spans must be (start, end) pairs of integers") from None
    if array.size == 0:
        return np.empty((0, 2), np.int64)
    if array.ndim == 1 and array.dtype.kind in "iu":
        raise TypeError(f"{path}: spans must have one list of (start, end) a text, such as [[(0, 3)]] for one text")
    if array.ndim != 2 or array.shape[1] != 2 or array.dtype.kind not in "iu":
        raise TypeError(f"{path}: spans must be (start, end) pairs of integers, not {array.dtype} {list(array.shape)}")
    if array.min() < 0 or array.max() > _MOST or (array[:, 0] >= array[:, 1]).any():
        raise ValueError(f"{path}: a span starts at 0 or later, and ends (exclusive) after its start")
    return array.astype(np.int64)


def _iterable(spans: object, path: str) -> Iterable[object]:
    if isinstance(spans, str) or not isinstance(spans, Iterable):
        raise TypeError(f"{path}: spans must be a list of (start, end), not {type(spans).__name__}")
    return spans
