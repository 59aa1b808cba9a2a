"""What takes long to make is made once."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def kept(folder: Path, make: Callable[[Path], None]) -> Path:
    """The folder, filled by `make` unless it is there already. It appears whole, by a rename."""
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=folder.parent))
        try:
            make(unfinished)
            _publish(unfinished, folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _publish(unfinished: Path, folder: Path) -> None:
    try:
        unfinished.replace(folder)
    except OSError:
        if not folder.is_dir():  # else another process was faster
            raise
