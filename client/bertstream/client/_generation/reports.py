"""The options that generation ran with, read from messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bertstream.client._enums import name_of
from bertstream.client._generation.types import EarlyStopping
from bertstream.client._reports import EffectiveOptions
from bertstream.v1 import generation_pb2 as generation
from bertstream.v1 import types_pb2 as types

_EARLY_STOPPING: dict[int, EarlyStopping] = {
    generation.EARLY_STOPPING_HEURISTIC: False,
    generation.EARLY_STOPPING_FIRST: True,
    generation.EARLY_STOPPING_NEVER: "never",
}
_OPTIONAL = (
    *("max_new_tokens", "min_new_tokens", "num_beams", "num_return_sequences", "top_k", "seed"),
    *("no_repeat_ngram_size", "do_sample", "add_special_tokens"),
)
_REAL = ("length_penalty", "temperature", "top_p", "repetition_penalty")
_LISTS = ("bad_words", "stop_strings", "eos_token_ids")


@dataclass(frozen=True, slots=True)
class EffectiveGenerationOptions(EffectiveOptions):
    """The options that generation ran with, with every default filled in, by the names of the keyword arguments.

    An option that has no effect with the others, such as `top_p` without sampling, is None.
    """

    max_new_tokens: int | None = None
    """For several prompts the largest number that any of them gets; in a stream that of a short prompt."""
    min_new_tokens: int | None = None
    num_beams: int | None = None
    num_return_sequences: int | None = None
    length_penalty: float | None = None
    early_stopping: EarlyStopping | None = None
    do_sample: bool | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    """The seed, also if the server chose it, provided that the message had one prompt."""
    repetition_penalty: float | None = None
    no_repeat_ngram_size: int | None = None
    bad_words: tuple[str, ...] = ()
    stop_strings: tuple[str, ...] = ()
    eos_token_ids: tuple[int, ...] = ()
    keep_special_tokens: bool = False
    token_scores: bool = False


def effective_generation_options(message: generation.GenerationOptions) -> EffectiveGenerationOptions:
    """Return the EffectiveGenerationOptions that a message reports."""
    values: dict[str, Any] = {name: _given(message, name) for name in _OPTIONAL}
    values |= {name: _shortest(_given(message, name)) for name in _REAL}
    values |= {name: tuple(getattr(message, name)) for name in _LISTS}
    return EffectiveGenerationOptions(
        model=message.model,
        truncation=name_of(types.TruncationStrategy, message.truncation.strategy),
        truncation_side=name_of(types.TruncationSide, message.truncation.side),
        max_length=message.truncation.max_length,
        offset_unit="",
        priority=name_of(types.Priority, message.priority),
        early_stopping=_EARLY_STOPPING.get(message.early_stopping),
        keep_special_tokens=message.keep_special_tokens,
        token_scores=message.token_scores,
        **values,
    )


def _given(message: Any, name: str) -> Any:
    return getattr(message, name) if message.HasField(name) else None


def _shortest(value: float | None) -> float | None:
    """Return the shortest number with the same 32 bits as the field, so that 0.7 comes back as 0.7."""
    return None if value is None else float(str(np.float32(value)))
