"""Where LoadModel may find checkpoints: below the configured roots, and nowhere else."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from bertstream.server.naming import is_name

log = logging.getLogger(__name__)


def find(roots: Sequence[str], source: str) -> Path | None:
    """Return the directory of this name below the first root that has it, resolved, or None.

    The target of a symbolic link must be below the root, too.
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
