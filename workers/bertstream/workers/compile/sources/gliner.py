"""Find the encoder that a GLiNER checkpoint was made from.

Its weights are the checkpoint's own; its settings and its tokenizer may be there too, or in the model that is named.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bertstream.workers.compile.sources import hub
from bertstream.workers.compile.sources.bounds import shown
from bertstream.workers.compile.sources.errors import CheckpointError
from bertstream.workers.compile.sources.files import read_object

FILE_NAME = "gliner_config.json"
ARCHITECTURE = "GLiNER"
_CONFIG = "config.json"
_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt", "*.model")
_PATTERNS = (_CONFIG, *_TOKENIZERS, "special_tokens_map.json", "added_tokens.json")


def encoder_settings(directory: Path) -> tuple[Path, dict[str, Any]]:
    """Return the file that has the encoder's settings, and what would be its config.json. Raises CheckpointError."""
    path, own = directory / FILE_NAME, read_object(directory / FILE_NAME)
    if not own:
        return directory / _CONFIG, read_object(directory / _CONFIG)
    values = own.get("encoder_config")
    if values is None:
        path = _folder(directory, (_CONFIG,)) / _CONFIG
        values = read_object(path)
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: encoder_config must be the configuration of a model, not {shown(values)}")
    return path, {**values, "architectures": [ARCHITECTURE]}


def tokenizer_folder(directory: Path) -> Path:
    """Return the folder with the encoder's tokenizer. Raises CheckpointError."""
    return _folder(directory, _TOKENIZERS) if (directory / FILE_NAME).exists() else directory


def named_files(root: Path) -> Iterator[Path]:
    """Yield the files of the model that is named, where the checkpoint needs any of them. Raises CheckpointError."""
    own = read_object(root / FILE_NAME)
    folders = {tokenizer_folder(root), root if own.get("encoder_config") else _folder(root, (_CONFIG,))} if own else ()
    for folder in folders:
        if folder != root:
            yield from (path for pattern in _PATTERNS for path in folder.glob(pattern))


def _folder(directory: Path, files: tuple[str, ...]) -> Path:
    """Return the checkpoint's own folder if any of these files is in it, or else that of the model that is named."""
    if any(True for pattern in files for _ in directory.glob(pattern)):
        return directory
    name = read_object(directory / FILE_NAME).get("model_name")
    # A path would be one of the machine that the checkpoint was trained on.
    if not isinstance(name, str) or not hub.is_hub_name(name):
        about = f"{directory} has no {files[0]}, and names no model on the hub to take it from"
        raise CheckpointError(f"{about} (model_name: {shown(name)}); put the encoder's files beside {FILE_NAME}")
    try:
        return hub.snapshot(name, _PATTERNS)
    except CheckpointError as error:
        raise CheckpointError(f"{directory} has no {files[0]} of its encoder, {name}: {error}") from error
