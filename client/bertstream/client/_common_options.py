"""Options that several kinds of methods share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from bertstream.client._enums import value_of
from bertstream.client._types import LongTexts, Truncation, TruncationSide, WindowPooling
from bertstream.v1 import types_pb2 as types


def numbers_of(numbers: int | Sequence[int] | None) -> list[int]:
    """Return one number or several as a list, which is empty for None."""
    return [numbers] if isinstance(numbers, int) else list(numbers or ())


def refuse_unknown(given: Mapping[str, object], documented: Any) -> None:
    """Raise TypeError for a keyword argument that is not in the TypedDict of the documented ones."""
    for name in sorted(given.keys() - documented.__required_keys__ - documented.__optional_keys__):
        raise TypeError(f"got an unexpected keyword argument {name!r}")


def set_prompt(options: Any, prompt: str | None, prompt_name: str | None) -> None:
    """Set the prompt of a message, or its name. Raises ValueError where both are given."""
    if prompt is not None and prompt_name is not None:
        raise ValueError("prompt and prompt_name exclude each other")
    if prompt is not None:
        options.prompt = prompt
    if prompt_name is not None:
        options.prompt_name = prompt_name


def set_truncation(
    options: types.TruncationOptions,
    max_length: int | None,
    truncation: bool | Truncation | None,
    side: TruncationSide | None,
) -> None:
    """Set those fields of the message for which the caller gave something other than None."""
    if max_length is not None:
        if max_length < 1:
            raise ValueError("max_length must be at least 1")
        options.max_length = max_length
    if truncation is not None:
        name = {True: "longest_first", False: "refuse"}[truncation] if isinstance(truncation, bool) else truncation
        options.strategy = value_of(types.TruncationStrategy, name, "truncation")
    if side is not None:
        options.side = value_of(types.TruncationSide, side, "truncation_side")


def set_windows(
    options: Any, long_texts: LongTexts | None, stride: int | None, pooling: WindowPooling | Literal["none"] | None
) -> None:
    """Set how long texts are read in windows. Raises ValueError for unusable values."""
    if long_texts not in (None, "cut", "windows"):
        raise ValueError(f"long_texts must be 'cut' or 'windows', not {long_texts!r}")
    options.windows = long_texts == "windows"
    if stride is not None:
        if stride < 0:
            raise ValueError("stride must be at least 0")
        options.stride = stride
    if pooling is not None:
        options.window_pooling = value_of(types.WindowPooling, pooling, "window_pooling")
