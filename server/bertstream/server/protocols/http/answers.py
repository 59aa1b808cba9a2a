"""Answers of endpoints, and JSON as it is written into them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from bertstream.server.core.errors import RequestError

JSON, PLAIN, HTML = "application/json", "text/plain; charset=utf-8", "text/html; charset=utf-8"
EVENTS = "text/event-stream"


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What is answered: a whole body, whose parts follow each other."""

    parts: Sequence[bytes]
    status: int = 200
    media_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """How many bytes the body has."""
        return sum(map(len, self.parts))


Form = Callable[[RequestError, str], HttpAnswer]  # an error, and the id of the request, in the form of an API


def dumped(value: Any) -> bytes:
    """Return a value as JSON.

    Arrays of NumPy are lists; a float32 has the fewest digits that tell it apart from others, about 9.
    """
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def answer_of(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> HttpAnswer:
    """Return the answer that is this value as JSON."""
    return HttpAnswer((dumped(value),), status, headers=headers or {})
