"""Read a checkpoint's settings for generation: generation_config.json, or config.json in older releases.

Source: transformers' GenerationConfig, and what its generate does with one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertstream.workers.compile.sources.bounds import shown
from bertstream.workers.compile.sources.errors import CheckpointError
from bertstream.workers.compile.sources.files import read_object
from bertstream.workers.programs.description import GenerationDescription

FILE_NAME = "generation_config.json"


def _at_least(least: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= least


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _positive(value: Any) -> bool:
    return _number(value) and value > 0


# The settings that become defaults, and which of their values are valid.
_DEFAULTS: dict[str, Callable[[Any], bool]] = {
    "max_new_tokens": _at_least(1),
    "max_length": _at_least(1),
    "min_new_tokens": _at_least(0),
    "min_length": _at_least(0),
    "num_beams": _at_least(1),
    "num_return_sequences": _at_least(1),
    "length_penalty": _number,
    "early_stopping": lambda value: isinstance(value, bool) or value == "never",
    "do_sample": lambda value: isinstance(value, bool),
    "temperature": _positive,
    "top_k": _at_least(0),
    "top_p": lambda value: _positive(value) and value <= 1,
    "repetition_penalty": _positive,
    "no_repeat_ngram_size": _at_least(0),
}

# Settings that change what is generated, and that we do not support: key -> the values that change nothing.
_HARMLESS: dict[str, tuple[Any, ...]] = {
    "bad_words_ids": (None, []),
    "begin_suppress_tokens": (None, []),
    "constraints": (None, []),
    "diversity_penalty": (None, 0),
    "dola_layers": (None,),
    "encoder_no_repeat_ngram_size": (None, 0),
    "encoder_repetition_penalty": (None, 1),
    "epsilon_cutoff": (None, 0),
    "eta_cutoff": (None, 0),
    "exponential_decay_length_penalty": (None,),
    "force_words_ids": (None, []),
    "forced_bos_token_id": (None,),
    "forced_eos_token_id": (None,),
    "guidance_scale": (None, 1),
    "max_time": (None,),
    "min_p": (None, 0),
    "num_beam_groups": (None, 1),
    "penalty_alpha": (None, 0),
    "prompt_lookup_num_tokens": (None,),
    "sequence_bias": (None, {}, []),
    "stop_strings": (None, []),
    "suppress_tokens": (None, []),
    "top_h": (None,),
    "typical_p": (None, 1),
    "watermarking_config": (None,),
}


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """Hold how the checkpoint generates, and warnings about settings that are not supported."""

    description: GenerationDescription
    warnings: tuple[str, ...] = ()


def read_generation(
    directory: Path, *, vocabulary_size: int, max_tokens: int, has_source: bool, first_token: int | None
) -> GenerationSettings:
    """Parse the settings of a decoder with this vocabulary and this number of positions.

    has_source: whether it belongs to an encoder-decoder, whose sequences begin with a start token. first_token: the
    tokenizer's [CLS], used as the start token where the checkpoint names none and transformers would ask the caller.
    Raises CheckpointError.
    """
    values = _values(directory)
    warnings = [*_ignored(values)]
    ends = _ids(values.get("eos_token_id"), "eos_token_id", vocabulary_size, directory)
    padding = _ids(values.get("pad_token_id"), "pad_token_id", vocabulary_size, directory) or ends or (0,)
    start = -1
    if has_source:
        start = _start(values, first_token, vocabulary_size, directory, warnings)
    return GenerationSettings(
        GenerationDescription(
            vocabulary_size=vocabulary_size,
            max_tokens=max_tokens,
            eos_token_ids=ends,
            pad_token_id=padding[0],
            decoder_start_token_id=start,
            defaults={key: values[key] for key, is_sane in _DEFAULTS.items() if key in values and is_sane(values[key])},
        ),
        tuple(warnings),
    )


def _values(directory: Path) -> dict[str, Any]:
    """Return the settings. Without generation_config.json, config.json's own go before those of its decoder."""
    if (directory / FILE_NAME).exists():
        return _set(read_object(directory / FILE_NAME))
    config = read_object(directory / "config.json")
    decoder = config.get("decoder")
    return (_set(decoder) if isinstance(decoder, dict) else {}) | _set(config)


def _set(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _ignored(values: Mapping[str, Any]) -> list[str]:
    warnings = [
        f"The checkpoint's default for generation {key} = {shown(values[key])} is not valid, and is not used."
        for key, is_sane in _DEFAULTS.items()
        if key in values and not is_sane(values[key])
    ]
    asked = [key for key, harmless in _HARMLESS.items() if values.get(key) not in harmless]
    if asked:
        warnings.append(f"The checkpoint sets options of generation that are not supported here: {', '.join(asked)}.")
    return warnings


def _ids(value: Any, name: str, vocabulary_size: int, directory: Path) -> tuple[int, ...]:
    """Return one id or several as a tuple, without those beyond the vocabulary, which are never generated."""
    listed = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(id, int) and not isinstance(id, bool) for id in listed):
        raise CheckpointError(f"{directory}: {name} must be a token's id or a list of them, not {shown(value)}")
    return tuple(id for id in listed if 0 <= id < vocabulary_size)


def _start(
    values: Mapping[str, Any], first_token: int | None, vocabulary_size: int, directory: Path, warnings: list[str]
) -> int:
    """Return the start token as transformers' generate does: decoder_start_token_id, else bos_token_id."""
    for name in ("decoder_start_token_id", "bos_token_id"):
        if name in values:
            found = _ids(values[name], name, vocabulary_size, directory)
            if len(found) != 1:
                raise CheckpointError(f"{directory}: {name} must be the id of one token, not {shown(values[name])}")
            return found[0]
    if first_token is None or first_token >= vocabulary_size:
        raise CheckpointError(f"{directory} says neither decoder_start_token_id nor bos_token_id")
    warnings.append(
        "The checkpoint does not say what its decoder begins with (decoder_start_token_id); the tokenizer's first"
        " special token is used."
    )
    return first_token
