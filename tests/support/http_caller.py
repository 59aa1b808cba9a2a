"""Ask the application of the HTTP port without a port, as a caller that may leave, or stop reading."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from bertstream.server.protocols.http.app import HttpApp
from tests.support.web import events_of


@dataclass
class Caller:
    """One request: what is sent, and what came back."""

    parts: list[bytes] = field(default_factory=lambda: [b""])
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    left: asyncio.Event = field(default_factory=asyncio.Event)
    reads: asyncio.Event = field(default_factory=asyncio.Event)  # set, unless a test has it stop

    def __post_init__(self) -> None:
        self.reads.set()

    @property
    def error(self) -> Any:
        return json.loads(self.body)["error"]

    @property
    def events(self) -> list[tuple[str, Any]]:
        return events_of(self.body.decode())

    async def receive(self) -> dict[str, Any]:
        if self.parts and not self.left.is_set():
            part = self.parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(self.parts)}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        await self.reads.wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.body += message["body"]

    async def ask(self, app: HttpApp, method: str, path: str, **headers: str) -> Caller:
        given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": method, "path": path, "headers": given, "client": ("127.0.0.1", 5000)}
        await app(scope, self.receive, self.send)
        return self
