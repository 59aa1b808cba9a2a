"""Read what config.json says of rotary positions, and refuse what we would compute wrongly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bertstream.workers.compile.sources.bounds import shown
from bertstream.workers.models.rotary import Rotary

# "dynamic" changes angles for texts longer than max_position_embeddings alone, which are refused.
_TYPES = ("default", "linear", "dynamic", "ntk")


def read_rotary(settings: object, key: str, theta: Any) -> Rotary:
    """Return the angles that a table such as rope_parameters describes. Raises ValueError.

    key: its name in config.json. theta: where the table has none.
    """
    settings = {} if settings is None else settings
    if not isinstance(settings, Mapping):
        raise ValueError(f"{key} must be a table, not {shown(settings)}")
    kind = settings.get("rope_type", settings.get("type", "default"))
    if kind not in _TYPES:
        raise ValueError(f"{key}: rope_type {shown(kind)} is not supported; these are: {', '.join(_TYPES)}")
    if settings.get("partial_rotary_factor", 1.0) != 1.0 or settings.get("mixed_b") is not None:
        raise ValueError(f"{key}: partial_rotary_factor and mixed_b are not supported")
    theta = positive(settings.get("rope_theta", theta), f"{key}: rope_theta")
    factor = positive(settings.get("factor"), f"{key}: factor") if kind in ("linear", "ntk") else 1.0
    return Rotary(theta, linear=factor if kind == "linear" else 1.0, ntk=factor if kind == "ntk" else 1.0)


def positive(value: Any, key: str) -> float:
    """Return a number above 0. Raises ValueError that names key and value."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or value <= 0:
        raise ValueError(f"{key} must be a number above 0, not {shown(value)}")
    return float(value)


def flag(values: Mapping[str, Any], key: str) -> bool:
    """Return a truth value. Raises ValueError for anything else."""
    if not isinstance(values[key], bool):
        raise ValueError(f"{key} must be true or false, not {shown(values[key])}")
    return bool(values[key])
