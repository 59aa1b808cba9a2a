"""Serve an ASGI application on a free port of this machine, and ask it as a browser's script would."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn

from tests.support.server import eventually

JSON = {"content-type": "application/json"}


@contextmanager
def serving(application: Any) -> Iterator[str]:
    """Run it in a thread; yield its URL, without a slash at the end."""
    server = uvicorn.Server(uvicorn.Config(application, port=0, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, name="web", daemon=True)
    thread.start()
    try:
        eventually(lambda: server.started, "the web server")
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered; of an error, too."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[tuple[str, Any]]:
        """Return the kind and the data of each server-sent event."""
        return events_of(self.text)

    @property
    def text(self) -> str:
        return self.body.decode()


def events_of(text: str) -> list[tuple[str, Any]]:
    """Return the kind and the data of each server-sent event of a stream."""
    blocks = [dict(line.split(": ", 1) for line in block.split("\n")) for block in text.split("\n\n") if block]
    return [(block["event"], json.loads(block["data"])) for block in blocks]


def ask(
    url: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> Answer:
    """Send a GET, or with a body a POST, and wait for all of the answer."""
    request = urllib.request.Request(url, body, dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=60, context=tls) as response:
            return _answer(response)
    except urllib.error.HTTPError as error:
        with error:
            return _answer(error)


def _answer(response: http.client.HTTPResponse | urllib.error.HTTPError) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status or 0, headers, response.read())


def call(url: str, rpc: str, request: Any, **headers: str) -> Answer:
    """Call an rpc, such as "EncodingService/EncodeTexts", of the port at this URL."""
    body = json.dumps(request).encode()
    return ask(f"{url}/api/rpc/bertstream.v1.{rpc}", body, {**JSON, **headers})
