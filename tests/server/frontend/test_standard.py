"""Health and reflection as a frontend serves them: on a real port, behind its chain of interceptors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from bertstream.server.core.gate import Gate
from bertstream.server.core.keys import Keys
from bertstream.server.frontend import links, standard
from bertstream.server.settings import KeysSettings
from tests.support.statuses import refusal
from tests.support.waiting import until

SERVING = health_pb2.HealthCheckResponse.SERVING
CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
REFLECTION = [f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo" for version in ("v1", "v1alpha")]
MINE = (("x-request-id", "mine"),)


class Served:
    def __init__(self, channel: grpc.aio.Channel, gate: Gate) -> None:
        self.channel: Any = channel
        self.gate = gate
        self.health: Any = health_pb2_grpc.HealthStub(channel)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    gate = Gate(1)
    server = grpc.aio.server(interceptors=(links.chain(gate, Keys()),))
    servicer = health.aio.HealthServicer()
    standard.add_health(server, servicer)
    standard.add_reflection(server, (health.SERVICE_NAME,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Served(channel, gate)
    await server.stop(None)


@pytest.mark.parametrize(
    ("health_open", "reflection_open", "names"),
    [
        (True, False, {"grpc.health.v1.Health"}),
        (False, False, set()),
        (False, True, {"grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"}),
    ],
)
def test_what_needs_no_key_is_as_configured(health_open: bool, reflection_open: bool, names: set[str]) -> None:
    settings = KeysSettings((), "/counts", open_health=health_open, open_reflection=reflection_open)
    assert set(standard.open_services(settings)) == names
    assert standard.open_services(None) == ()


async def test_a_model_that_is_not_there_has_the_request_id(served: Served) -> None:
    found = await refusal(served.health.Check(health_pb2.HealthCheckRequest(service="models/x"), metadata=MINE))
    assert found.code is grpc.StatusCode.NOT_FOUND
    assert found.trailing["x-request-id"] == "mine"


async def test_calls_that_go_well_have_it_too(served: Served) -> None:
    call = served.health.Check(health_pb2.HealthCheckRequest(), metadata=MINE)
    assert (await call).status == SERVING
    assert dict(await call.trailing_metadata())["x-request-id"] == "mine"


@pytest.mark.parametrize("raw", [b"\xff\xff", bytes(1 << 17)])
async def test_bytes_that_are_no_request_are_told_so(
    served: Served, caplog: pytest.LogCaptureFixture, raw: bytes
) -> None:
    calls = [served.channel.unary_unary(CHECK)(raw), served.channel.unary_stream(WATCH)(raw).read()]
    calls += [served.channel.stream_stream(method)(iter([raw])).read() for method in REFLECTION]
    for call in calls:
        found = await refusal(call)
        assert found.code is grpc.StatusCode.INVALID_ARGUMENT
        assert found.info.reason == ("MALFORMED_MESSAGE" if len(raw) == 2 else "REQUEST_TOO_LARGE")
        assert found.trailing["x-request-id"] == found.request.request_id
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_what_health_does_not_serve_is_not_there(served: Served) -> None:
    found = await refusal(served.channel.unary_unary("/grpc.health.v1.Health/List")(b""))
    assert (found.code, found.info.reason) == (grpc.StatusCode.UNIMPLEMENTED, "METHOD_NOT_FOUND")


async def test_none_of_them_counts_or_is_refused_at_the_gate(served: Served) -> None:
    watch = served.health.Watch(health_pb2.HealthCheckRequest())
    assert (await watch.read()).status == SERVING
    await asyncio.wait_for(served.gate.wait_empty(60), 20)
    with served.gate.passing():  # the one that may
        assert (await served.health.Check(health_pb2.HealthCheckRequest())).status == SERVING
    served.gate.close()
    assert (await served.health.Check(health_pb2.HealthCheckRequest())).status == SERVING
    for method in REFLECTION:
        request = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
        answer = await served.channel.stream_stream(method)(iter([request])).read()
        listed = reflection_pb2.ServerReflectionResponse.FromString(answer).list_services_response.service
        assert len(listed) == 3
    watch.cancel()


async def test_a_watch_that_its_caller_leaves_is_a_line_for_debugging(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "bertstream")
    watch = served.health.Watch(health_pb2.HealthCheckRequest(), metadata=MINE)
    await watch.read()
    watch.cancel()
    await until(lambda: caplog.records)
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.DEBUG, "grpc.health.v1.Health/Watch CANCELLED")
    assert vars(record)["request_id"] == "mine"
