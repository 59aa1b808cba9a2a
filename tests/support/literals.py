"""Read the values of a Literal, or of a union of several."""

from __future__ import annotations

from typing import Any, get_args


def values_of_literal(form: Any) -> tuple[str, ...]:
    """Return the values of a Literal, or of all in a union, in their order."""
    return tuple(value for part in get_args(form) for value in ([part] if isinstance(part, str) else get_args(part)))
