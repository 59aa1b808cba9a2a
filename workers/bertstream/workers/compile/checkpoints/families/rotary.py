"""Read what config.json says of rotary positions, and refuse what we would compute wrongly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bertstream.workers.compile.sources.bounds import is_count, shown
from bertstream.workers.models.rotary import Rotary

_TYPES = ("default", "linear", "dynamic", "ntk")


def read_rotary(settings: object, key: str, theta: Any, trained: Any = None) -> Rotary:
    """Return the angles that a table such as rope_parameters describes. Raises ValueError.

    key: its name in config.json. theta: where the table has none. trained: the tokens of a text beyond which "dynamic"
    angles depend on its length; None where there are no longer texts.
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
    if kind == "dynamic" and trained is not None:
        return dynamic(theta, settings.get("factor"), f"{key}: factor", trained)
    factor = positive(settings.get("factor"), f"{key}: factor") if kind in ("linear", "ntk") else 1.0
    return Rotary(theta, linear=factor if kind == "linear" else 1.0, ntk=factor if kind == "ntk" else 1.0)


def dynamic(theta: float, factor: Any, key: str, trained: Any) -> Rotary:
    """Return angles that depend on a text's length beyond the trained one. Raises ValueError.

    factor: how many times as long a text may be for which it was meant. key: its name in config.json.
    """
    if not is_count(trained) or trained < 1:
        raise ValueError(f"the trained length of texts must be a whole number of tokens, not {shown(trained)}")
    if positive(factor, key) < 1:
        raise ValueError(f"{key} must be at least 1, not {shown(factor)}")
    return Rotary(theta, dynamic=float(factor), trained=trained)


def longest(rotary: Rotary, positions: Any) -> Any:
    """Return the tokens of the longest text: `positions`, or as far as dynamic angles were meant to reach."""
    return int(rotary.trained * rotary.dynamic) if rotary.trained else positions


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
