"""Name compiled models by all that they depend on, without torch.

<cache>/models/<revision>/
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from bertstream.workers.compile import sources
from bertstream.workers.contract import ADAPTER_TASKS

Progress = Callable[[str, int, int], None]  # is told what is being done, how much is done, and of how much

# Our own sources that decide what a compiled model is, so that a new version does not run an old version's programs.
_CODE = (
    "models/**/*.py",
    "compile/**/*.py",
    "programs/description.py",
    "programs/weights_file.py",
    "trust/seal.py",
    "native/**/*.cpp",
    "native/**/*.h",
    "native/**/*.cu",
)
_WORKERS = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class ReadingOptions:
    """Say how the user wants a checkpoint to be read."""

    task: str = ""  # one of contract.TASKS or contract.ADAPTER_TASKS; "" follows the checkpoint
    allow_unsupported_modules: bool = False

    @property
    def head(self) -> str:
        """Return the task that says what the checkpoint's head is for; "" where the task does not."""
        return "" if self.task in ADAPTER_TASKS else self.task

    @property
    def adapter(self) -> str:
        """Return the task that says which of the checkpoint's adapters is meant; "" where the task does not."""
        return self.task if self.task in ADAPTER_TASKS else ""


DEFAULT_OPTIONS = ReadingOptions()


def default_cache() -> Path:
    """Return $BERTSTREAM_CACHE, or bertstream in $XDG_CACHE_HOME or ~/.cache."""
    if own := os.environ.get("BERTSTREAM_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bertstream"


def model_folder(cache: Path, revision: str) -> Path:
    """Return where a compiled model of this revision is, if it is anywhere."""
    return cache / "models" / revision


def revision_of(
    checkpoint: Path, torch_version: str, target: str, tell: Progress, options: ReadingOptions = DEFAULT_OPTIONS
) -> str:
    """Return a hash of all that the compiled directory depends on, as 32 hex digits.

    target: the identity of what it is compiled for. Raises CheckpointError.
    """
    digest = hashlib.sha256(f"{torch_version} {target} {code_hash()} {options}".encode())
    everything = sorted({*sources.settings_files(checkpoint), *sources.all_weight_files(checkpoint)})
    for number, path in enumerate(everything):
        tell("check", number, len(everything))
        its = path.relative_to(checkpoint) if path.is_relative_to(checkpoint) else path.name
        digest.update(f"\0{its}\0".encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:32]


def code_hash(workers: Path = _WORKERS) -> str:
    """Return a hash of those of our own sources that decide what a compiled model is."""
    return hash_files(path for pattern in _CODE for path in workers.glob(pattern))


def hash_files(paths: Iterable[Path]) -> str:
    """Return a hash of the names and contents of files, in whatever order they come."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()
