"""The application with the whole chain of a frontend, without a port."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from bertstream.server.core import errors
from bertstream.server.core.gate import Gate
from bertstream.server.core.keys import Keys
from bertstream.server.core.quotas import SharedCounts
from bertstream.server.core.tracing import Trace, Tracer
from bertstream.server.frontend.links import links_of
from bertstream.server.protocols.http.answers import HttpAnswer, answer_of
from bertstream.server.protocols.http.app import HttpApp, links_of_http
from bertstream.server.protocols.http.call import HttpCall
from bertstream.server.protocols.http.endpoints import Endpoint
from bertstream.server.protocols.http.forms import openai_form
from bertstream.server.protocols.interceptors.counting import CallMeasures
from bertstream.server.protocols.interceptors.links import Kind
from bertstream.server.settings import ConnectionLimits, KeyEntry
from bertstream.workers.measuring import frontend_metrics as metrics
from bertstream.workers.measuring.instruments import Registry
from tests.support.hosted import LIMITS
from tests.support.http_caller import Caller
from tests.support.waiting import until

KEY = "bs_user"
USER = KeyEntry("user", KeyEntry.hash_of(KEY), concurrent=1)
BEARER = {"authorization": f"Bearer {KEY}"}


class Body(Struct):
    """A body for tests."""

    text: str


def app_of(
    handle: Callable[[Any, HttpCall], Awaitable[HttpAnswer | None]],
    *,
    keys: Keys | None = None,
    gate: Gate | None = None,
    registry: Registry | None = None,
    traces: list[Trace] | None = None,
) -> HttpApp:
    endpoints = (
        Endpoint("POST", "/do", handle, openai_form, "Do it.", Body),
        Endpoint("GET", "/of/{name}", handle, openai_form, "Tell of it."),
        Endpoint("GET", "/health", handle, openai_form, "Tell how it is.", kind=Kind.STANDARD),
    )
    links = links_of(
        gate or Gate(10),
        keys or Keys(),
        ("GET /health",),
        tracer=None if traces is None else Tracer(1.0, traces.append),
        measures=CallMeasures(registry or Registry(), [each.name for each in endpoints]),
        identified=links_of_http(LIMITS, ConnectionLimits()),
    )
    return HttpApp(endpoints, links)


async def echo(body: Any, call: HttpCall) -> HttpAnswer:
    return answer_of({"text": body.text if body else call.place})


async def waiting(body: Any, call: HttpCall) -> HttpAnswer:
    await asyncio.sleep(60)
    return answer_of({})


def sent(text: str = "fox") -> Caller:
    return Caller([json.dumps({"text": text}).encode()])


async def test_an_answer() -> None:
    caller = await sent().ask(app_of(echo), "POST", "/do", x_request_id="mine")
    assert (caller.status, json.loads(caller.body)) == (200, {"text": "fox"})
    assert caller.headers == {
        "content-type": "application/json",
        "content-length": str(len(caller.body)),
        "x-request-id": "mine",
    }


async def test_a_body_may_come_in_parts() -> None:
    caller = await Caller([b'{"te', b'xt":', b'"fox"}']).ask(app_of(echo), "POST", "/do")
    assert json.loads(caller.body) == {"text": "fox"}


async def test_a_body_that_is_compressed_is_told_so() -> None:
    body = gzip.compress(b'{"text": "fox"}')
    caller = await Caller([body]).ask(app_of(echo), "POST", "/do", content_encoding="gzip")
    assert (caller.status, caller.error["code"], caller.error["param"]) == (415, "body_encoded", "content-encoding")
    assert "'gzip'" in caller.error["message"]
    for encoding in ("identity", "Identity", ""):
        assert (await sent().ask(app_of(echo), "POST", "/do", content_encoding=encoding)).status == 200
    assert (await Caller().ask(app_of(echo), "GET", "/of/a", content_encoding="gzip")).status == 200


async def test_a_place_in_a_path_may_have_slashes() -> None:
    caller = await Caller().ask(app_of(echo), "GET", "/of/a/b")
    assert json.loads(caller.body) == {"text": "a/b"}
    assert (await Caller().ask(app_of(echo), "HEAD", "/of/a")).status == 200
    assert (await Caller().ask(app_of(echo), "GET", "/of/")).status == 404


async def test_what_is_not_there() -> None:
    caller = await Caller().ask(app_of(echo), "GET", "/nothing")
    assert (caller.status, caller.error["code"]) == (404, "method_not_found")
    caller = await Caller().ask(app_of(echo), "GET", "/do")
    assert (caller.status, caller.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"{", "malformed_message", None),
        (b'{"text": "\xff"}', "malformed_message", None),
        (b'{"x":' + b"[" * 100_000, "malformed_message", None),
        (b'{"text": 3}', "invalid_type", "text"),
        (b"[]", "invalid_type", None),
        (b"{}", "invalid_type", None),
    ],
)
async def test_a_bad_body(body: bytes, code: str, param: str | None) -> None:
    caller = await Caller([body]).ask(app_of(echo), "POST", "/do")
    assert (caller.status, caller.error["code"], caller.error["param"]) == (400, code, param)


async def test_a_body_that_is_too_large_is_taken_and_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    part = b"a" * (1 << 20)
    several = LIMITS.max_request_bytes // len(part) + 2
    caller = Caller([part] * several)
    await caller.ask(app_of(echo), "POST", "/do")
    assert (caller.status, caller.error["code"], caller.parts) == (413, "request_too_large", [])
    assert "connection" not in caller.headers  # as all of it was read
    endless = Caller([part] * 100)
    await endless.ask(app_of(echo), "POST", "/do")
    assert (endless.status, endless.headers["connection"]) == (413, "close")


async def test_a_body_that_does_not_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertstream.server.protocols.http.call.BODY_SECONDS", 0.05)
    caller = Caller([b"{", b""])

    async def slow() -> Any:
        if len(caller.parts) == 1:
            await asyncio.sleep(60)
        return {"type": "http.request", "body": caller.parts.pop(0), "more_body": True}

    caller.receive = slow  # type: ignore[method-assign]
    gate = Gate(1)
    asking = asyncio.create_task(caller.ask(app_of(echo, gate=gate), "POST", "/do"))
    await asyncio.sleep(0.02)
    assert gate.fullness == 0  # it has no place before the body is there
    await asking
    assert (caller.status, caller.error["code"], caller.headers["connection"]) == (408, "body_late", "close")


async def test_a_key_is_wanted_before_a_body_is_read(tmp_path: Path) -> None:
    keys = Keys((USER,), SharedCounts(tmp_path / "counts"))
    app = app_of(echo, keys=keys)
    for headers, code in (({}, "invalid_api_key"), ({"authorization": "Bearer bs_other"}, "invalid_api_key")):
        caller = await sent().ask(app, "POST", "/do", **headers)
        assert (caller.status, caller.error["code"], len(caller.parts)) == (401, code, 1)
        assert (caller.headers["www-authenticate"], caller.headers["connection"]) == ("Bearer", "close")
    assert (await Caller().ask(app, "GET", "/nothing")).status == 401
    assert (await Caller().ask(app, "GET", "/health")).status == 200
    assert (await sent().ask(app, "POST", "/do", **BEARER)).status == 200


async def test_quotas_and_the_gate_say_when_to_come_again(tmp_path: Path) -> None:
    keys, gate = Keys((USER,), SharedCounts(tmp_path / "counts")), Gate(1)
    app = app_of(waiting, keys=keys, gate=gate)
    first = sent()
    asking = asyncio.create_task(first.ask(app, "POST", "/do", **BEARER))
    await until(lambda: gate.fullness == 1)
    second = await sent().ask(app, "POST", "/do", **BEARER)
    assert (second.status, second.error["code"]) == (429, "quota_exceeded")
    assert (second.headers["retry-after"], second.headers["retry-after-ms"]) == ("1", "1000")
    third = await sent().ask(app_of(waiting, gate=gate), "POST", "/do")
    assert (third.status, third.error["code"]) == (429, "overloaded")
    gate.close()
    fourth = await sent().ask(app_of(waiting, gate=gate), "POST", "/do")
    assert (fourth.status, fourth.error["code"], fourth.headers["retry-after"]) == (503, "draining", "1")
    first.left.set()
    await asking


async def test_headers_have_a_bound() -> None:
    caller = await sent().ask(app_of(echo), "POST", "/do", x_more="a" * 20_000)
    assert (caller.status, caller.error["code"], caller.error["param"]) == (413, "request_too_large", "headers")


async def test_a_deadline() -> None:
    caller = await sent().ask(app_of(waiting), "POST", "/do", x_request_timeout="0.05")
    assert (caller.status, caller.error["code"]) == (504, "deadline_exceeded")


@pytest.mark.parametrize("given", ["", "soon", "-1", "0", "nan", "inf"])
async def test_a_deadline_that_makes_no_sense(given: str) -> None:
    caller = await sent().ask(app_of(echo), "POST", "/do", x_request_timeout=given)
    assert (caller.status, caller.error["param"]) == (400, "x-request-timeout")


async def test_who_leaves_has_its_call_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "bertstream")
    gate, caller = Gate(1), sent()
    asking = asyncio.create_task(caller.ask(app_of(waiting, gate=gate), "POST", "/do"))
    await until(lambda: gate.fullness == 1)
    caller.left.set()
    await asking
    assert (caller.status, gate.fullness) == (0, 0)
    assert [record.getMessage() for record in caplog.records] == ["POST /do CANCELLED"]
    early = Caller([b"{", b""])
    early.left.set()
    await early.ask(app_of(echo), "POST", "/do")
    assert early.status == 0


async def test_a_connection_that_closes_behind_the_answer_cancels_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Servers tell of an answer that is over as they tell of a caller who leaves."""
    caplog.set_level(logging.DEBUG, "bertstream")
    caller = sent()

    async def stream(body: Any, call: HttpCall) -> None:
        await call.begin(HttpAnswer(()), lambda error: b"")
        await call.write(b"all", more=False)
        caller.left.set()
        await asyncio.sleep(0.01)

    await caller.ask(app_of(stream), "POST", "/do")
    assert caller.body == b"all"
    assert [record.getMessage() for record in caplog.records] == ["POST /do OK"]


async def test_a_call_that_is_cut_off_as_the_server_stops_is_told_so() -> None:
    caller, begun = sent(), asyncio.Event()

    async def begin(body: Any, call: HttpCall) -> HttpAnswer:
        begun.set()
        return await waiting(body, call)

    asking = asyncio.create_task(caller.ask(app_of(begin), "POST", "/do"))
    await begun.wait()
    asking.cancel()
    await asking
    assert (caller.status, caller.error["code"]) == (503, "draining")


async def test_an_answer_that_is_cut_off_has_its_last_words_or_is_broken_off() -> None:
    async def begin(body: Any, call: HttpCall) -> None:
        await call.begin(HttpAnswer((b"",)), lambda error: error.reason.encode())
        await call.write(b"some, ")
        await asyncio.Event().wait()

    caller = sent()
    asking = asyncio.create_task(caller.ask(app_of(begin), "POST", "/do"))
    await until(lambda: caller.body == b"some, ")
    asking.cancel()
    await asking
    assert caller.body == b"some, DRAINING"

    async def answer(body: Any, call: HttpCall) -> HttpAnswer:
        return HttpAnswer((b"some, ", b"and more"))

    stalled, sending = sent(), list[Any]()
    stalled.reads.clear()
    send = stalled.send

    async def noted(message: dict[str, Any]) -> None:
        sending.append(message)
        await send(message)

    stalled.send = noted  # type: ignore[method-assign]
    asking = asyncio.create_task(stalled.ask(app_of(answer), "POST", "/do"))
    await until(lambda: sending)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_a_path_writes_no_lines_into_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        caller = await Caller().ask(app_of(echo), "GET", "/x\nerror: \x1b[2J")
    assert caller.status == 404
    told = [record.getMessage() for record in caplog.records if "/x" in record.getMessage()]
    assert told
    assert all(message.isprintable() for message in told)


async def test_a_bug_is_an_error_that_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(body: Any, call: HttpCall) -> HttpAnswer:
        raise KeyError("secret")

    caller = await sent().ask(app_of(fail), "POST", "/do")
    assert (caller.status, caller.error["code"]) == (500, "internal")
    assert "secret" not in caller.body.decode()
    assert [record.getMessage() for record in caplog.records] == ["POST /do failed"]


async def test_calls_are_counted_and_traced() -> None:
    async def refuse(body: Any, call: HttpCall) -> HttpAnswer:
        raise errors.invalid("text", "it is wrong")

    registry, traces = Registry(), list[Trace]()
    for handle in (echo, refuse):
        await sent().ask(app_of(handle, registry=registry, traces=traces), "POST", "/do")
    snapshot = registry.snapshot()
    ended = {each.labels: each.count for each in snapshot.distributions if each.name == metrics.CALL_DURATION.name}
    assert ended == {("POST /do", "OK"): 1, ("POST /do", "INVALID_ARGUMENT"): 1}
    received = [each for each in snapshot.distributions if each.name == metrics.CALL_RECEIVED.name]
    assert sum(each.total for each in received) == 2 * len('{"text": "fox"}')
    told = [trace.root.attributes for trace in traces]
    assert [(each["http.route"], each["http.response.status_code"]) for each in told] == [("/do", 200), ("/do", 400)]
