"""A call that came over HTTP."""

from __future__ import annotations

import asyncio
import base64
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from bertstream.server.core.errors import RequestError, body_encoded, body_late, invalid, too_large
from bertstream.server.core.tracing import Value
from bertstream.server.protocols.call import Call, CallerGone
from bertstream.server.protocols.http.answers import Form, HttpAnswer
from bertstream.server.protocols.http.statuses import headers_of
from bertstream.server.settings import Limits

SUBJECTS = "subjects"  # in the state of a connection: the names in its caller's certificate
TIMEOUT_HEADER = "x-request-timeout"
BODY_SECONDS = 60.0  # for all of a body to arrive
LastWords = Callable[[RequestError], bytes]  # what an answer that has begun says of an error
Scope = Mapping[str, Any]  # ASGI's, as are the other two (https://asgi.readthedocs.io)
Receive = Any
Send = Any


def check_headers(headers: Iterable[tuple[bytes, bytes]], most: int) -> None:
    """Raise REQUEST_TOO_LARGE for headers of more bytes; h11 bounds only those that come in several pieces."""
    if (size := sum(len(name) + len(value) for name, value in headers)) > most:
        raise too_large("headers", f"they have {size} bytes, and the limit is {most}")


class HttpCall(Call):
    """One request and its answer."""

    def __init__(
        self, method: str, path: str, form: Form, scope: Scope, receive: Receive, send: Send, place: str = ""
    ) -> None:
        """Take the endpoint's method, path, and form of errors, ASGI's three, and what is in the path's open place."""
        metadata: Mapping[str, str | bytes] = {
            key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]
        }
        super().__init__(f"{method} {path}", metadata, None)
        self.place = place
        self.body = b""  # until it was read
        self.left = False  # whether the caller has closed the connection
        self.answer_headers: dict[str, str] = {}  # beside those of the answer itself
        self._route = {"http.request.method": method, "http.route": path}
        self.form = form  # of an error
        self._scope = scope
        self._receive = receive
        self._send = send
        self._code = "OK"
        self._status = 0  # of the answer that has begun
        self._over = False  # whether all of the answer has gone out
        self._last_words: LastWords | None = None  # of an answer that has begun, should it end with an error
        self._whole = False  # whether all of the body was read

    @property
    def peer(self) -> str:
        host, port = self._scope.get("client") or ("", 0)
        return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"

    @property
    def code(self) -> str:
        return self._code

    @property
    def subjects(self) -> Iterable[str]:
        names: Iterable[str] = self._scope.get("state", {}).get(SUBJECTS, ())
        return names

    def attributes(self, code: str) -> Mapping[str, Value]:
        return {**self._route, "http.response.status_code": self._status, "rpc.response.status_code": code}

    def check_headers(self, most: int) -> None:
        """Raise REQUEST_TOO_LARGE for headers of more bytes."""
        check_headers(self._scope["headers"], most)

    async def read_body(self, limits: Limits) -> None:
        """Read all of the body; what is too long is read and dropped as far as the transport's own limit goes.

        So its sender, who may look for an answer only when it has sent everything, gets one. Raises REQUEST_TOO_LARGE,
        BODY_LATE, BODY_ENCODED, and CallerGone.
        """
        try:
            async with asyncio.timeout(BODY_SECONDS):
                await self._read(limits)
        except TimeoutError:
            raise body_late(BODY_SECONDS) from None
        encoding = str(self.metadata.get("content-encoding", ""))
        if self.body and encoding.strip().lower() not in ("", "identity"):
            raise body_encoded(encoding)

    async def _read(self, limits: Limits) -> None:
        parts: list[bytes] = []
        while not self._whole and self.received_bytes <= limits.max_message_bytes:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.left = True
                raise CallerGone
            part = message.get("body", b"")
            self.received_bytes += len(part)
            if self.received_bytes <= limits.max_request_bytes:
                parts.append(part)
            else:
                parts.clear()
            self._whole = not message.get("more_body", False)
        if self.received_bytes > (limit := limits.max_request_bytes):
            raise too_large("", f"the body has more than {limit} bytes: send less at a time")
        self.body = b"".join(parts)

    async def gone(self) -> bool:
        """Return once the caller has closed the connection, or the answer is over; the body must have been read.

        ASGI tells of both alike. Returns whether the caller left with the answer still to come.
        """
        while (await self._receive())["type"] != "http.disconnect":
            pass
        return not self._over

    async def complete(self, answer: Any) -> Any:
        """Send an answer; None stands for one that the handler has sent."""
        if answer is not None:
            await self._answer(answer)

    async def fail(self, error: RequestError) -> Any:
        self._code = error.code.name
        if self._last_words is not None:
            await self.write(self._last_words(error), more=False)
            return
        answer = self.form(error, self.request_id)
        self.answer_headers |= headers_of(error)
        if not self._whole:
            self.answer_headers["connection"] = "close"  # as the rest of the body may still come
        await self._answer(answer)

    @property
    def can_fail(self) -> bool:
        """Whether the caller can still be told of an error."""
        return not self._over and (self._status == 0 or self._last_words is not None)

    async def begin(self, answer: HttpAnswer, last_words: LastWords) -> None:
        """Begin an answer whose length is not known; `last_words` end it where it fails, as its status has gone out."""
        self._last_words = last_words
        await self._head(answer)

    async def write(self, part: bytes, *, more: bool = True) -> None:
        """Send a part of an answer that has begun."""
        self.sent_bytes += len(part)
        self._over = not more
        await self._send({"type": "http.response.body", "body": part, "more_body": more})

    async def _answer(self, answer: HttpAnswer) -> None:
        self.answer_headers["content-length"] = str(answer.size)
        await self._head(answer)
        for part in answer.parts[:-1]:
            await self.write(part)
        await self.write(answer.parts[-1] if answer.parts else b"", more=False)

    async def _head(self, answer: HttpAnswer) -> None:
        self._status = answer.status
        headers = {"content-type": answer.media_type, **answer.headers, **self.answer_headers}
        trailers = {name: _text(value) for name, value in self.trailers.items()}
        listed = [(name.encode(), value.encode("latin-1")) for name, value in (headers | trailers).items()]
        await self._send({"type": "http.response.start", "status": answer.status, "headers": listed})


def _text(value: str | bytes) -> str:
    """Return a header's value; bytes in Base64, as gRPC has them over HTTP/2."""
    return base64.b64encode(value).decode().rstrip("=") if isinstance(value, bytes) else value


def seconds_of(call: Call) -> float | None:
    """Return how long the caller gives the call; None for no bound. Raises INVALID_RANGE."""
    given = call.metadata.get(TIMEOUT_HEADER)
    if given is None:
        return None
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise invalid(TIMEOUT_HEADER, "it must be seconds, such as 2.5, above 0", "INVALID_RANGE")
    return seconds
