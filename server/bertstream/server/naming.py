"""The names that callers may give to what they have loaded."""

from __future__ import annotations

import re

_NAME = re.compile(r"[A-Za-z0-9._/-]{1,128}")


def is_name(text: str) -> bool:
    """Tell whether a caller may use this as a model's name or source: short, of plain characters, no way out."""
    return _NAME.fullmatch(text) is not None and ".." not in text and not text.startswith("/")
