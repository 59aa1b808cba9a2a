"""Options of generation: keyword arguments to messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack

from bertstream.client._common_options import refuse_unknown, set_truncation
from bertstream.client._enums import value_of
from bertstream.client._fields import MOST, numbers_of, optional_real, optional_whole, set_fields, strings_of
from bertstream.client._generation.types import EarlyStopping
from bertstream.client._types import Numbers, Priority, Truncation, TruncationSide
from bertstream.v1 import generation_pb2 as generation
from bertstream.v1 import types_pb2 as types

_WHOLE: Mapping[str, tuple[int, int]] = {
    "max_new_tokens": (1, MOST),
    "min_new_tokens": (0, MOST),
    "num_beams": (1, MOST),
    "top_k": (0, MOST),
    "seed": (0, 2**64 - 1),
    "no_repeat_ngram_size": (0, MOST),
}
"""Options that are whole numbers, with their smallest and largest values."""
_REAL = ("length_penalty", "temperature", "top_p", "repetition_penalty")
_PLAIN = ("model", "add_special_tokens", "do_sample", "keep_special_tokens", "token_scores")


class SummarizeOptions(TypedDict, total=False):
    """Keyword arguments of `summarize`, with the meanings that they have in transformers.

    If one is left out, None or empty, the checkpoint's generation_config.json applies, and else the default here.
    """

    model: str
    """The model's name; empty for the default model."""
    max_new_tokens: int | None
    """The most tokens to generate; default 20, or the checkpoint's max_length. A long prompt is cut to make room for
    the tokens that are asked for here."""
    min_new_tokens: int | None
    """The fewest tokens before an answer may end."""
    num_beams: int | None
    """The beams of a beam search, at most 16; 1 for no beam search. Not possible with `do_sample`, `stop_strings` and
    `stream_generate`."""
    length_penalty: float | None
    """Beam search: an ended candidate's score is divided by its length to this power; default 1."""
    early_stopping: EarlyStopping | None
    """Beam search: True ends it at as many ended candidates as beams, False when a better one is unlikely, "never"
    when a better one is impossible."""
    do_sample: bool | None
    """Whether to draw tokens at random, rather than take the most probable."""
    temperature: float | None
    """Sampling: logits are divided by it; above 0, default 1."""
    top_k: int | None
    """Sampling: how many of the most probable tokens to draw from; 0 for all, default 50."""
    top_p: float | None
    """Sampling: draw from the most probable tokens that together reach this probability; default 1, all."""
    seed: int | None
    """Sampling: the same seed gives the same tokens, whatever else the server does; default a random one."""
    repetition_penalty: float | None
    """Logits of tokens that occurred already are divided by it if positive, else multiplied by it; default 1."""
    no_repeat_ngram_size: int | None
    """The length of runs of tokens that must not occur twice; 0 for no such rule."""
    bad_words: Sequence[str]
    """Words that are never generated."""
    stop_strings: Sequence[str]
    """Strings at which an answer ends; its text stops before them."""
    eos_token_ids: Numbers
    """The tokens at which an answer ends, in place of the checkpoint's."""
    add_special_tokens: bool | None
    """Whether to add special tokens such as [CLS] and [SEP] to the prompt. None adds all for an encoder-decoder, only
    those before a text for a decoder, and none to token ids."""
    keep_special_tokens: bool
    """Whether to keep special tokens in the text."""
    max_length: int | None
    """The number of tokens, special ones included, to which longer prompts are cut."""
    truncation: bool | Truncation | None
    """True or "longest_first" to cut long prompts, False or "refuse" to fail on them, "only_first", "only_second"."""
    truncation_side: TruncationSide | None
    """The end that is cut off; for a decoder left by default, so that it continues the prompt's end."""
    priority: Priority | None
    """interactive (the default, except for `generate_stream`) or bulk."""


class GenerateOptions(SummarizeOptions, total=False):
    """Keyword arguments of the methods that generate: those of SummarizeOptions, and `token_scores`.

    `generate`, `stream_generate` and `generate_stream` also take `num_return_sequences`: how many answers to return for
    a prompt, at most num_beams unless they are sampled; None for one.
    """

    token_scores: bool
    """Whether to return the logarithm of each token's probability."""


def generation_options(
    num_return_sequences: int | None = None, **given: Unpack[GenerateOptions]
) -> generation.GenerationOptions:
    """Return the message for GenerateOptions; it asks for one answer unless `num_return_sequences` is given.

    Raises ValueError or TypeError for unusable values.
    """
    refuse_unknown(given, GenerateOptions)
    numbers: dict[str, Any] = {name: optional_whole(given.get(name), name, *range_) for name, range_ in _WHOLE.items()}
    numbers |= {name: optional_real(given.get(name), name) for name in _REAL}
    options = generation.GenerationOptions(
        early_stopping=_early_stopping(given.get("early_stopping")),
        num_return_sequences=optional_whole(num_return_sequences, "num_return_sequences", 1) or 1,
        bad_words=strings_of(given.get("bad_words"), "bad_words"),
        stop_strings=strings_of(given.get("stop_strings"), "stop_strings"),
        eos_token_ids=numbers_of(given.get("eos_token_ids"), "eos_token_ids", 0),
        **numbers,
    )
    set_fields(options, **{name: given.get(name) for name in _PLAIN})
    if (priority := given.get("priority")) is not None:
        options.priority = value_of(types.Priority, priority, "priority")
    cut = (given.get("max_length"), given.get("truncation"), given.get("truncation_side"))
    set_truncation(options.truncation, *cut)
    return options


def _early_stopping(value: object) -> generation.EarlyStopping.ValueType:
    match value:
        case None:
            return generation.EARLY_STOPPING_UNSPECIFIED
        case bool():
            return generation.EARLY_STOPPING_FIRST if value else generation.EARLY_STOPPING_HEURISTIC
        case str() if value == "never":
            return generation.EARLY_STOPPING_NEVER
    raise ValueError(f"early_stopping must be True, False or 'never', not {value!r}")
