"""What an endpoint is: a method and path of HTTP, and what answers it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from bertstream.server.protocols.http.answers import Form, HttpAnswer
from bertstream.server.protocols.http.call import HttpCall
from bertstream.server.protocols.interceptors.links import Kind

# Takes the body as the endpoint's type, or None where it has none; returns None where it has answered by itself.
Handle = Callable[[Any, HttpCall], Awaitable[HttpAnswer | None]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one path."""

    method: str
    path: str  # one that ends with "/{name}" takes whatever stands there, slashes too
    handle: Handle
    form: Form
    about: str  # one sentence, for people
    request: type[Struct] | None = None  # of the body
    kind: Kind = Kind.OURS
    example: Mapping[str, Any] = field(default_factory=dict)  # of a body
    answer: Any = None  # an example of what is answered
    events: Sequence[tuple[str, Any]] = ()  # examples of server-sent events, by which it may answer instead: kind, data

    @property
    def name(self) -> str:
        """Return the name by which calls are counted: "POST /v1/embeddings"."""
        return f"{self.method} {self.path}"


class Table:
    """Finds the endpoint of a request."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._exact: dict[str, dict[str, Endpoint]] = {}
        self._open: dict[str, dict[str, Endpoint]] = {}  # by the path up to the name
        for each in endpoints:
            start, brace, _ = each.path.partition("{")
            (self._open if brace else self._exact).setdefault(start, {})[each.method] = each

    def at(self, path: str) -> tuple[Mapping[str, Endpoint], str]:
        """Return the endpoints of a path by their methods, and what stands in the name's place."""
        if path in self._exact:
            return self._exact[path], ""
        for start, endpoints in self._open.items():
            if path.startswith(start) and path != start:
                return endpoints, path.removeprefix(start)
        return {}, ""
