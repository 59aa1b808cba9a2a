"""Read the JSON files of a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bertstream.workers.compile.sources.errors import CheckpointError
from bertstream.workers.compile.sources.stand_ins import refuse_stand_in


def read_json(path: Path) -> Any:
    """Return the file's JSON value. Raises CheckpointError."""
    refuse_stand_in(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from error
    except RecursionError as error:
        raise CheckpointError(f"{path} cannot be read as JSON: it is nested too deeply") from error


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in the file, or {} where there is no such file. Raises CheckpointError."""
    if not path.exists():
        return {}
    value = read_json(path)
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a JSON object")
    return value
