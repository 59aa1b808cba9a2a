"""Options that several kinds of methods share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from bertstream.client._enums import check_name, value_of
from bertstream.client._fields import optional_whole, set_fields
from bertstream.client._types import LongTexts, Truncation, TruncationSide, WindowPooling
from bertstream.v1 import types_pb2 as types


def refuse_unknown(given: Mapping[str, object], documented: Any) -> None:
    """Raise TypeError for a keyword argument that is not in the TypedDict of the documented ones."""
    for name in sorted(given.keys() - documented.__required_keys__ - documented.__optional_keys__):
        raise TypeError(f"got an unexpected keyword argument {name!r}")


def set_prompt(options: Any, prompt: str | None, prompt_name: str | None) -> None:
    """Set the prompt of a message, or its name. Raises ValueError where both are given."""
    if prompt is not None and prompt_name is not None:
        raise ValueError("prompt and prompt_name exclude each other")
    set_fields(options, prompt=prompt, prompt_name=prompt_name)


def set_truncation(
    options: types.TruncationOptions,
    max_length: int | None,
    truncation: bool | Truncation | None,
    side: TruncationSide | None,
) -> None:
    """Set those fields of the message for which the caller gave something other than None.

    Raises ValueError or TypeError for unusable values.
    """
    set_fields(options, max_length=optional_whole(max_length, "max_length", 1))
    if truncation is not None:
        name = {True: "longest_first", False: "refuse"}[truncation] if isinstance(truncation, bool) else truncation
        options.strategy = value_of(types.TruncationStrategy, name, "truncation")
    if side is not None:
        options.side = value_of(types.TruncationSide, side, "truncation_side")


def set_windows(options: Any, long_texts: LongTexts | None, stride: int | None, pooling: WindowPooling | None) -> None:
    """Set how long texts are read in windows. Raises ValueError or TypeError for unusable values."""
    if long_texts is not None:
        check_name(long_texts, get_args(LongTexts), "long_texts")
    options.windows = long_texts == "windows"
    set_fields(options, stride=optional_whole(stride, "stride", 0))
    if pooling is not None:
        options.window_pooling = value_of(types.WindowPooling, pooling, "window_pooling", get_args(WindowPooling))
