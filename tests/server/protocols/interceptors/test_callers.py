"""Callers are identified by the whole chain of a frontend, on a real port."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from bertstream.server.core.gate import Gate
from bertstream.server.core.keys import Keys
from bertstream.server.core.quotas import SharedCounts
from bertstream.server.frontend import channelz
from bertstream.server.frontend.links import ADMIN_METHODS, chain
from bertstream.server.protocols.call import CURRENT
from bertstream.server.protocols.inference import inference_pb2
from bertstream.server.settings import KeyEntry
from bertstream.v1 import encoding_pb2, generation_pb2, models_pb2, tasks_pb2, tokenization_pb2
from tests.support.certificates import Authority
from tests.support.statuses import refusal
from tests.support.waiting import until

HEALTH, MODELS, ENCODING = "grpc.health.v1.Health", "bertstream.v1.ModelService", "bertstream.v1.EncodingService"
KEY, ADMIN_KEY = "bs_user", "bs_admin"
USER = KeyEntry("user", KeyEntry.hash_of(KEY), weight=2.0, concurrent=1)
ADMIN = KeyEntry("admin", KeyEntry.hash_of(ADMIN_KEY), role="admin", slot=1)
CERTIFIED = KeyEntry("by-name", subject="SAN=ingest.example.com", slot=2)
Serve = Callable[..., Awaitable[grpc.aio.Channel]]
WAITING: list[str] = []  # the callers of calls that wait, as they begin to


async def who(request: bytes, context: Any) -> bytes:
    caller = CURRENT.get().caller
    if request == b"wait":
        WAITING.append(caller.name)
        await asyncio.sleep(60)
    return f"{caller.name} {caller.weight:g}".encode()


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Yield a function that starts a server with keys, over TLS if it gets an authority; it returns a channel."""
    ends: list[Callable[[], Awaitable[Any]]] = []
    counts = SharedCounts(tmp_path / "counts")

    async def start(
        entries: Sequence[KeyEntry] | None = (USER, ADMIN, CERTIFIED),
        open_services: Sequence[str] = (HEALTH,),
        gate: int = 10,
        authority: Authority | None = None,
    ) -> grpc.aio.Channel:
        server = grpc.aio.server(interceptors=(chain(Gate(gate), Keys(entries, counts), open_services),))
        handlers: dict[str, Any] = {
            name: grpc.unary_unary_rpc_method_handler(who) for name in ("Check", "LoadModel", "EncodeTexts")
        }
        for name in (HEALTH, MODELS, ENCODING):
            server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, handlers)])
        if authority is None:
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
        else:
            channel = mutual(server, authority)
        await server.start()
        ends.extend((channel.close, lambda: server.stop(None)))
        return channel

    yield start
    for end in ends:
        await end()


def mutual(server: grpc.aio.Server, authority: Authority) -> grpc.aio.Channel:
    own, theirs = authority.issue("server"), authority.issue("client", "ingest.example.com")

    def read(path: str | Path) -> bytes:
        return Path(path).read_bytes()

    shown = [(read(own.key), read(own.certificate))]
    credentials = grpc.ssl_server_credentials(shown, read(authority.path), require_client_auth=True)
    client = grpc.ssl_channel_credentials(read(authority.path), read(theirs.key), read(theirs.certificate))
    return grpc.aio.secure_channel(f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}", client)


def call(channel: grpc.aio.Channel, method: str, key: str | None = None, request: bytes = b"") -> Any:
    metadata = () if key is None else (("authorization", f"Bearer {key}"),)
    multi: Any = channel.unary_unary(f"/{method}")
    return multi(request, metadata=metadata)


async def test_without_keys_the_address_says_who_calls(serve: Serve) -> None:
    channel = await serve(None)
    assert await call(channel, f"{ENCODING}/EncodeTexts") == b"127.0.0.1 1"
    assert await call(channel, f"{MODELS}/LoadModel", "bs_any") == b"127.0.0.1 1"


async def test_a_key_says_who_calls(serve: Serve) -> None:
    channel = await serve()
    assert await call(channel, f"{ENCODING}/EncodeTexts", KEY) == b"user 2"
    assert await call(channel, f"{ENCODING}/EncodeTexts", ADMIN_KEY) == b"admin 1"


@pytest.mark.parametrize(("key", "reason"), [(None, "KEY_REQUIRED"), ("bs_wrong", "KEY_UNKNOWN"), ("", "KEY_UNKNOWN")])
@pytest.mark.parametrize("method", [f"{ENCODING}/EncodeTexts", f"{MODELS}/LoadModel", f"{ENCODING}/NoSuchThing", "a/b"])
async def test_who_has_none_gets_nothing_and_takes_no_place(
    serve: Serve, caplog: pytest.LogCaptureFixture, key: str | None, reason: str, method: str
) -> None:
    """The caller does not even learn whether there is such a method.

    The gate has room for one call, so that waiting calls would get another error.
    """
    caplog.set_level(logging.DEBUG)
    channel = await serve(gate=1)
    found = await refusal(call(channel, method, key))
    assert (found.code, found.info.reason) == (grpc.StatusCode.UNAUTHENTICATED, reason)
    assert found.info.domain == "bertstream.dev"
    assert found.trailing["x-request-id"] == found.request.request_id != ""
    assert "wrong" not in found.message + caplog.text
    waiting = call(channel, f"{ENCODING}/EncodeTexts", KEY, b"wait")
    assert (await refusal(call(channel, f"{ENCODING}/EncodeTexts"))).info.reason == "KEY_REQUIRED"
    waiting.cancel()


async def test_what_is_open_needs_no_key_and_looks_at_none(serve: Serve) -> None:
    channel = await serve()
    assert await call(channel, f"{HEALTH}/Check") == b"127.0.0.1 1"
    assert await call(channel, f"{HEALTH}/Check", "bs_wrong") == b"127.0.0.1 1"
    closed = await serve(open_services=())
    assert (await refusal(call(closed, f"{HEALTH}/Check"))).info.reason == "KEY_REQUIRED"
    assert await call(closed, f"{HEALTH}/Check", KEY) == b"user 2"


async def test_admin_methods_need_that_role(serve: Serve) -> None:
    channel = await serve()
    assert await call(channel, f"{MODELS}/LoadModel", ADMIN_KEY) == b"admin 1"
    found = await refusal(call(channel, f"{MODELS}/LoadModel", KEY))
    assert (found.code, found.info.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_NOT_ALLOWED")
    assert dict(found.info.metadata) == {"role": "admin"}


async def test_calls_at_once_are_counted_until_they_end(serve: Serve) -> None:
    channel = await serve()
    WAITING.clear()
    waiting = call(channel, f"{ENCODING}/EncodeTexts", KEY, b"wait")
    await until(lambda: WAITING)  # or the next call might have its place

    async def reason() -> str:
        try:
            await call(channel, f"{ENCODING}/EncodeTexts", KEY)
        except grpc.aio.AioRpcError as error:
            return str(error.details())
        return ""

    assert await reason() == "this key has 1 calls under way, which is its bound"
    found = await refusal(call(channel, f"{ENCODING}/EncodeTexts", KEY))
    assert (found.code, found.info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
    assert found.trailing["grpc-retry-pushback-ms"] == "1000"
    assert await call(channel, f"{ENCODING}/EncodeTexts", ADMIN_KEY) == b"admin 1"
    waiting.cancel()
    while await reason():
        pass


async def test_a_verified_certificate_stands_for_a_key(serve: Serve, tmp_path: Path) -> None:
    channel = await serve(authority=Authority(tmp_path))
    assert await call(channel, f"{ENCODING}/EncodeTexts") == b"by-name 1"
    assert await call(channel, f"{ENCODING}/EncodeTexts", KEY) == b"user 2"
    other = await serve((USER,), authority=Authority(tmp_path))
    assert (await refusal(call(other, f"{ENCODING}/EncodeTexts"))).info.reason == "KEY_REQUIRED"


async def test_the_log_names_the_caller(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "bertstream")
    await call(await serve(), f"{ENCODING}/EncodeTexts", KEY)
    await until(lambda: caplog.records)
    assert caplog.records[-1].__dict__["caller"] == "user"
    assert KEY not in caplog.text


def test_the_admin_methods_are_those_that_change_what_is_served_or_tell_who_is_connected() -> None:
    files = (encoding_pb2, generation_pb2, inference_pb2, models_pb2, tasks_pb2, tokenization_pb2)
    services = [service for file in files for service in file.DESCRIPTOR.services_by_name.values()]
    rpcs = {f"{service.full_name}/{method.name}" for service in services for method in service.methods}
    ours = {rpc for rpc in ADMIN_METHODS if rpc not in channelz.METHODS}
    assert len(ADMIN_METHODS) - len(ours) == len(channelz.METHODS) == 7
    assert {rpc for rpc in rpcs if not rpc.partition("/")[2].startswith(("Get", "List"))} >= ours
    assert {rpc for rpc in rpcs if MODELS in rpc} - ADMIN_METHODS == {f"{MODELS}/ListModels", f"{MODELS}/GetModel"}
    assert {rpc for rpc in rpcs if "RepositoryModel" in rpc} == {rpc for rpc in ours if MODELS not in rpc}
