"""Where LoadModel may find checkpoints: below the configured roots, and nowhere else."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9._/-]{1,128}")


def is_name(text: str) -> bool:
    """Whether a caller may use this as a model's name or source: short, plain, and leading nowhere else."""
    return _NAME.fullmatch(text) is not None and ".." not in text and not text.startswith("/")


def find(roots: Sequence[str], source: str) -> Path | None:
    """The directory of this name below the first root that has it, resolved. None where there is none.

    What a symbolic link leads to must be below the root, too.
    """
    if not is_name(source):
        return None
    for root in roots:
        try:
            base = Path(root).expanduser().resolve()
            path = (base / source).resolve()
            if not path.is_dir():
                continue
        except (OSError, RuntimeError):  # not readable, or links in a circle
            continue
        if base in path.parents:
            return path
        log.warning("%s is not below the model root %s", source, root)
    return None
