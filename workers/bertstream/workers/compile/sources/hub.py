"""Download files of a checkpoint from the Hugging Face hub, or take them from its cache."""

from __future__ import annotations

import re
from pathlib import Path

from bertstream.workers.compile.sources.errors import CheckpointError

_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)


def is_hub_name(name: str) -> bool:
    """Return whether a model on the hub may have this name."""
    return bool(_NAME.fullmatch(name))


def snapshot(name: str, patterns: tuple[str, ...]) -> Path:
    """Return the folder with the files of a model on the hub that fit the patterns. Raises CheckpointError."""
    try:
        import huggingface_hub  # not needed for local checkpoints
    except ImportError as error:
        raise CheckpointError(
            f"there is no directory {name}, and huggingface_hub, which would look it up on the hub, is not installed"
        ) from error
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=list(patterns)))
    except Exception as error:  # the exceptions come from several libraries, depending on the transport in use
        raise CheckpointError(
            f"there is no directory {name}, and the hub did not give it: {_first_line(error)}"
        ) from error


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
