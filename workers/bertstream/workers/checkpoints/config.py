"""config.json, parsed and checked for what we would compute wrongly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertstream.workers.checkpoints.errors import CheckpointError
from bertstream.workers.checkpoints.families import FAMILIES, Family
from bertstream.workers.checkpoints.files import read_object
from bertstream.workers.models import SUPPORTED_ACTIVATIONS, EncoderShape

# Settings that change the numbers in ways we do not compute: key -> the values that change nothing.
_HARMLESS: dict[str, tuple[Any, ...]] = {
    "position_embedding_type": ("absolute", None),
    "is_decoder": (False, None),
    "add_cross_attention": (False, None),
    "pruned_heads": ({}, None),
    "quantization_config": (None,),
}

_COUNTS = {
    *("vocabulary_size", "type_vocabulary_size", "hidden_size", "embedding_size"),
    *("layers", "attention_heads", "intermediate_size", "positions"),
}


@dataclass(frozen=True, slots=True)
class CheckpointConfig:
    """What config.json says."""

    family: Family
    architecture: str
    shape: EncoderShape  # has_pooler is known from the weights only, and False here


def read_config(directory: Path) -> CheckpointConfig:
    """Parse `directory`'s config.json. Raises CheckpointError."""
    path = directory / "config.json"
    values = read_object(path)
    family = _family(values, path)
    for key, harmless in _HARMLESS.items():
        if key in values and values[key] not in harmless:
            raise CheckpointError(f"{path}: {key} = {values[key]!r} is not supported")
    architectures = values.get("architectures") or [f"{family.name}Model"]
    return CheckpointConfig(family, str(architectures[0]), _shape(family, {**family.defaults, **values}, path))


def _family(values: dict[str, Any], path: Path) -> Family:
    name = values.get("model_type")
    if name not in FAMILIES:
        supported = ", ".join(FAMILIES)
        raise CheckpointError(f"{path}: model_type {name!r} is not supported; these are: {supported}")
    return FAMILIES[name]


def _shape(family: Family, values: dict[str, Any], path: Path) -> EncoderShape:
    found = {ours: values[theirs] for ours, theirs in family.settings.items()}
    _check(found, family, path)
    found.setdefault("embedding_size", found["hidden_size"])
    found |= family.fixed
    return EncoderShape(**found, positions_skip_padding=family.positions_skip_padding, has_pooler=False)


def _check(found: dict[str, Any], family: Family, path: Path) -> None:
    theirs = family.settings
    for ours in sorted(_COUNTS & found.keys()):
        if not _is_count(found[ours]) or found[ours] < 1:
            raise CheckpointError(f"{path}: {theirs[ours]} must be a positive number, not {found[ours]!r}")
    if found["hidden_size"] % found["attention_heads"]:
        sizes = f"{found['hidden_size']} is not a multiple of {theirs['attention_heads']} {found['attention_heads']}"
        raise CheckpointError(f"{path}: {theirs['hidden_size']} {sizes}")
    if found["activation"] not in SUPPORTED_ACTIVATIONS:
        refused = f"{theirs['activation']} {found['activation']!r} is not supported"
        raise CheckpointError(f"{path}: {refused}; these are: {', '.join(SUPPORTED_ACTIVATIONS)}")
    if not family.positions_skip_padding:
        found["pad_token_id"] = found["pad_token_id"] or 0  # plays no part in the numbers
    elif not _is_count(found["pad_token_id"]) or found["pad_token_id"] + 1 >= found["positions"]:
        raise CheckpointError(f"{path}: pad_token_id {found['pad_token_id']!r} leaves no positions")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
