"""The files that sentence-transformers adds to a checkpoint: pooling, normalising, prompts, maximum length.

Source: the files that its releases 2 to 6 write.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bertstream.workers.checkpoints.errors import CheckpointError
from bertstream.workers.checkpoints.files import read_json, read_object
from bertstream.workers.description import DefaultPooling

# Release 6 writes "pooling_mode": "mean"; the releases before it a boolean for each mode.
_MODES = {
    "cls": "cls",
    "mean": "mean",
    "max": "max",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
    "lasttoken": "last_token",
}
_OLD_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
# The first module's settings are named after a model type, which need not be the checkpoint's.
_SETTINGS_FILES = "sentence_*_config.json"


@dataclass(frozen=True, slots=True)
class SentenceSettings:
    """What the checkpoint's authors set for sentence vectors."""

    pooling: DefaultPooling = field(default_factory=DefaultPooling)
    max_seq_length: int = 0  # 0: not set
    lowercase: bool = False
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt_name: str = ""
    warnings: tuple[str, ...] = ()


def read_sentence_settings(directory: Path) -> SentenceSettings:
    """Parse the files; without modules.json, mean pooling that is not normalised. Raises CheckpointError."""
    if not (directory / "modules.json").exists():
        return SentenceSettings()
    warnings: list[str] = []
    modules = _modules(directory)
    transformer = read_object(_settings_path(directory, modules))
    prompts, default_prompt = _prompts(read_object(directory / "config_sentence_transformers.json"), warnings)
    pooling = _pooling(directory, modules, warnings)
    length = transformer.get("max_seq_length")
    return SentenceSettings(
        pooling=pooling,
        max_seq_length=length if isinstance(length, int) and length > 0 else 0,
        lowercase=transformer.get("do_lower_case") is True,
        prompts=prompts,
        default_prompt_name=default_prompt,
        warnings=tuple(warnings),
    )


def _modules(directory: Path) -> list[tuple[str, str]]:
    """Each module's class name and folder, in order."""
    path = directory / "modules.json"
    modules = read_json(path)
    try:
        return [(str(module["type"]).rsplit(".", 1)[-1], str(module["path"])) for module in modules]
    except (TypeError, KeyError) as error:
        raise CheckpointError(f"{path} must be a list of modules with a type and a path") from error


def _settings_path(directory: Path, modules: list[tuple[str, str]]) -> Path:
    folder = next((path for kind, path in modules if kind == "Transformer"), "")
    found = sorted(_inside(directory, folder).glob(_SETTINGS_FILES))
    return found[0] if found else directory / "sentence_bert_config.json"


def _inside(directory: Path, folder: str) -> Path:
    """modules.json is data from outside, so its paths must not lead out of the checkpoint."""
    if Path(folder).is_absolute() or ".." in Path(folder).parts:
        raise CheckpointError(f"{directory / 'modules.json'} names the path {folder!r}, outside the checkpoint")
    return directory / folder


def _pooling(directory: Path, modules: list[tuple[str, str]], warnings: list[str]) -> DefaultPooling:
    pooling, pooled = DefaultPooling(), False
    for kind, folder in modules:
        if kind == "Pooling":
            pooling, pooled = _read_pooling(read_object(_inside(directory, folder) / "config.json"), warnings), True
        elif kind == "Normalize" and pooled:
            pooling = replace(pooling, normalize=True)
        elif kind not in ("Transformer", "Dropout"):
            warnings.append(
                f"The checkpoint's sentence-transformers module {kind} is not run, "
                "so its pooled vectors are not those of sentence-transformers."
            )
    if not pooled:
        warnings.append("The checkpoint names no sentence-transformers pooling; mean pooling is the default.")
    return replace(pooling, dimensions=_truncation(directory))


def _truncation(directory: Path) -> int:
    dimensions = read_object(directory / "config_sentence_transformers.json").get("truncate_dim")
    return dimensions if isinstance(dimensions, int) and dimensions > 0 else 0


def _read_pooling(config: Mapping[str, Any], warnings: list[str]) -> DefaultPooling:
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [mode for key, mode in _OLD_KEYS.items() if config.get(key) is True] or ["mean"]
    modes = [modes] if isinstance(modes, str) else list(modes)
    mode = _MODES.get(modes[0]) if len(modes) == 1 else None
    if mode is None:
        warnings.append(
            f"The checkpoint's sentence-transformers pooling {' + '.join(map(str, modes))} is not supported; "
            "mean pooling is the default."
        )
    include_prompt = config.get("include_prompt") is not False
    if not include_prompt:
        warnings.append(
            "The checkpoint's sentence-transformers pooling leaves the tokens of a prompt out, and here they are "
            "pooled too, so vectors of texts with a prompt are not those of sentence-transformers."
        )
    return DefaultPooling(mode=mode or "mean", include_prompt=include_prompt)


def _prompts(config: Mapping[str, Any], warnings: list[str]) -> tuple[dict[str, str], str]:
    found = config.get("prompts") or {}
    prompts = {str(name): str(prompt or "") for name, prompt in found.items()} if isinstance(found, dict) else {}
    default = config.get("default_prompt_name") or ""
    if default and default not in prompts:
        warnings.append(f"The checkpoint's default prompt {default!r} is not among its prompts; none is the default.")
        default = ""
    return prompts, str(default)
