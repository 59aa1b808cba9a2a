"""Parse config.json, and refuse settings that we would compute wrongly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bertstream.workers.compile.checkpoints.adapters import Adapters, read_adapters
from bertstream.workers.compile.checkpoints.families import FAMILIES, Family
from bertstream.workers.compile.checkpoints.families.family import CAUSAL
from bertstream.workers.compile.checkpoints.head_settings import (
    NO_TASK,
    HeadSettings,
    Hints,
    Task,
    read_head_settings,
    read_hints,
)
from bertstream.workers.compile.sources.bounds import check_count, check_share, shown
from bertstream.workers.compile.sources.errors import CheckpointError
from bertstream.workers.compile.sources.files import read_object
from bertstream.workers.compile.sources.gliner import encoder_settings
from bertstream.workers.models import SUPPORTED_ACTIVATIONS, EncoderShape

# Settings that change the numbers in ways we do not compute: key -> the values that change nothing.
_HARMLESS: dict[str, tuple[Any, ...]] = {
    "position_embedding_type": ("absolute", None),
    "pruned_heads": ({}, None),
    "quantization_config": (None,),
}
# The same for each part that a model may play in an encoder-decoder.
_ALONE, _ENCODER, _DECODER = "outside an encoder-decoder", "in an encoder", "in a decoder"
_HARMLESS_PARTS: dict[str, dict[str, tuple[Any, ...]]] = {
    _ALONE: {"is_decoder": (False, None, True), "add_cross_attention": (False, None)},
    _ENCODER: {"is_decoder": (False, None), "add_cross_attention": (False, None)},
    _DECODER: {"is_decoder": (True,), "add_cross_attention": (True,)},
}
_ENCODER_DECODER = "encoder-decoder"
_WARNING = "The checkpoint is a {}, but config.json does not set is_decoder: it does not generate."


@dataclass(frozen=True, slots=True)
class CheckpointConfig:
    """Hold what config.json says."""

    family: Family
    architecture: str
    shape: EncoderShape  # has_pooler is False here, since only the weights tell
    heads: HeadSettings
    decoder: CheckpointConfig | None = None  # the decoder of an encoder-decoder; all other fields are about its encoder
    shares_sides: bool = False  # encoder and decoder use the same weights where both have them
    is_decoder: bool = False  # of a decoder alone, or of the decoder in an encoder-decoder
    names_class: bool = True  # whether config.json says which of transformers' classes it is
    hints: Hints = field(default_factory=Hints)
    own_code: tuple[str, ...] = ()  # what the checkpoint has its own code for, which is never run
    adapters: Adapters = field(default_factory=Adapters)

    @property
    def unsupported(self) -> tuple[str, ...]:
        """Return what the checkpoint needs and we cannot run."""
        return (*(f"the checkpoint's own code for {each}" for each in self.own_code), *self.heads.scores.unsupported)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return warnings about settings of the checkpoint that have no effect here."""
        in_vain = self.architecture.endswith(CAUSAL) and not self.is_decoder
        return (_WARNING.format(self.architecture),) if in_vain else ()


def read_config(directory: Path, root: Path | None = None, task: Task = NO_TASK) -> CheckpointConfig:
    """Parse `directory`'s config.json. Raises CheckpointError.

    root: the checkpoint's own folder, where it is another one. task: what else is known of the head.
    """
    (path, values), root = encoder_settings(directory), root or directory
    if values.get("model_type") != _ENCODER_DECODER:
        architecture = _architecture(values, path)
        config = _parse(path, values, _ALONE, architecture, root, task)
        return replace(config, names_class=bool(values.get("architectures")), hints=read_hints(root, values))
    if task.name:
        raise CheckpointError(f"{path}: an encoder-decoder has no head for {task.name}")
    encoder, decoder = (_part(values, name, path) for name in ("encoder", "decoder"))
    return replace(
        _parse(path, encoder, _ENCODER, "EncoderDecoderModel"),
        decoder=_parse(path, decoder, _DECODER, CAUSAL[0]),
        shares_sides=values.get("tie_encoder_decoder") is True,
    )


def _architecture(values: Mapping[str, Any], path: Path) -> str:
    """Return the class that the checkpoint was saved as, or else the one that transformers would use."""
    named = values.get("architectures") or [f"{values.get('model_type')}Model"]
    if not isinstance(named, list) or not isinstance(named[0], str):
        raise CheckpointError(f"{path}: architectures must be a list of names, not {shown(named)}")
    return named[0]


def _own_code(directory: Path, values: dict[str, Any], family: Family) -> tuple[str, ...]:
    """Return the transformers classes that the checkpoint replaces by its own code, which we do not run.

    Left out is code whose numbers are the family's.
    """
    tokenizer = read_object(directory / "tokenizer_config.json")
    mapped = _texts(tokenizer.get("auto_map")) | _texts(values.get("auto_map"))
    return tuple(
        name
        for name, code in mapped.items()
        if name.startswith(("AutoModel", "AutoTokenizer")) and not code.rpartition("--")[2].startswith(family.own_code)
    )


def _texts(value: Any) -> dict[str, str]:
    return {str(key): str(text) for key, text in value.items()} if isinstance(value, dict) else {}


def _part(values: dict[str, Any], name: str, path: Path) -> dict[str, Any]:
    part = values.get(name)
    if not isinstance(part, dict):
        raise CheckpointError(f"{path}: {name} must be the configuration of a model, not {shown(part)}")
    return part


def _parse(
    path: Path,
    values: dict[str, Any],
    place: str,
    architecture: str,
    root: Path | None = None,
    task: Task = NO_TASK,
) -> CheckpointConfig:
    family = _family(values, path)
    own_code = _own_code(path.parent, values, family)
    values = _read(family, {**family.defaults, **values}, path)
    _check_supported(values, family, place, path)
    is_decoder = values.get("is_decoder") is True
    shape = _shape(family, values, path, {"causal": True} if is_decoder else {})
    heads = read_head_settings(path.parent, values, family.heads, architecture, shape, task, root)
    adapters = read_adapters(values, path)
    return CheckpointConfig(
        family, architecture, shape, heads, is_decoder=is_decoder, own_code=own_code, adapters=adapters
    )


def _read(family: Family, values: dict[str, Any], path: Path) -> dict[str, Any]:
    try:
        return dict(family.read(values))
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _check_supported(values: dict[str, Any], family: Family, place: str, path: Path) -> None:
    for key, harmless in _HARMLESS.items():
        if values.get(key) not in harmless and key not in family.marks:
            raise CheckpointError(f"{path}: {key} = {shown(values[key])} is not supported")
    if not family.cross_attention and (place == _DECODER or values.get("is_decoder")):
        raise CheckpointError(f"{path}: {family.name} has no decoders")
    for key, harmless in _HARMLESS_PARTS[place].items():
        if values.get(key) not in harmless:
            raise CheckpointError(f"{path}: {key} = {shown(values.get(key))} is not supported {place}")
    # transformers' own layers accept only the decoder's width.
    if values.get("cross_attention_hidden_size") not in (None, values.get("hidden_size")):
        raise CheckpointError(f"{path}: cross_attention_hidden_size must be the decoder's hidden_size")


def _family(values: dict[str, Any], path: Path) -> Family:
    found = [family for family in FAMILIES.values() if family.is_of(values)]
    if not found:
        supported, name = ", ".join(FAMILIES), shown(values.get("model_type"))
        raise CheckpointError(f"{path}: model_type {name} is not supported; these are: {supported}")
    return max(found, key=lambda family: len(family.marks))


def _shape(family: Family, values: dict[str, Any], path: Path, more: dict[str, Any]) -> EncoderShape:
    found = {ours: values[theirs] for ours, theirs in family.settings.items()}
    _check(found, family, path)
    found.setdefault("embedding_size", found["hidden_size"])
    try:
        return family.shape(**found, **family.fixed, **more)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _check(found: dict[str, Any], family: Family, path: Path) -> None:
    theirs = family.settings
    for ours, most in sorted(family.shape.COUNTS.items()):
        if ours in found:
            check_count(found[ours], most, path, theirs[ours])
    if "layer_norm_eps" in found:
        found["layer_norm_eps"] = check_share(found["layer_norm_eps"], path, theirs["layer_norm_eps"])
    if found["hidden_size"] % found["attention_heads"]:
        sizes = f"{found['hidden_size']} is not a multiple of {theirs['attention_heads']} {found['attention_heads']}"
        raise CheckpointError(f"{path}: {theirs['hidden_size']} {sizes}")
    if found["activation"] not in SUPPORTED_ACTIVATIONS:
        refused = f"{theirs['activation']} {shown(found['activation'])} is not supported"
        raise CheckpointError(f"{path}: {refused}; these are: {', '.join(SUPPORTED_ACTIVATIONS)}")
