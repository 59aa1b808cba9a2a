"""Which frontend a call goes to, and what becomes of it where the frontend or the caller goes away."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest
from starlette.applications import Starlette

from bertstream.server.admin import channels, rpc
from bertstream.server.admin.channels import FrontendChannels
from bertstream.v1 import generation_pb2, models_pb2
from tests.support.server import eventually
from tests.support.web import JSON, call, serving

LIST = "ModelService/ListModels"


class Fake:
    """A frontend that says who it is, and what it was asked with."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self.target = f"unix:{path}"
        self.metadata: list[dict[str, Any]] = []
        self.begun = threading.Event()
        self.ended = threading.Event()
        self._server: grpc.Server | None = None

    def start(self) -> None:
        lost: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(self._lose)
        models = {
            "ListModels": grpc.unary_unary_rpc_method_handler(self._list),
            "GetModel": self._holding(True),
            "LoadModel": lost,
        }
        streams = {"StreamGeneration": self._holding(False)}
        server = grpc.server(ThreadPoolExecutor(4))
        texts = {"TokenizeTexts": lost}
        layers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "StreamLayers": grpc.unary_stream_rpc_method_handler(lambda *asked: iter([self._lose(*asked)]))
        }
        services = (
            *(("ModelService", models), ("GenerationService", streams)),
            *(("TokenizationService", texts), ("EncodingService", layers)),
        )
        for service, handlers in services:
            name = f"bertstream.v1.{service}"
            server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, handlers)])
        server.add_insecure_port(self.target)
        server.start()
        self._server = server

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop(None).wait()

    def _list(self, _: bytes, context: Any) -> bytes:
        self.metadata.append(dict(context.invocation_metadata()))
        return models_pb2.ListModelsResponse(server_version=self.name).SerializeToString()

    def _lose(self, _: bytes, context: Any) -> bytes:
        """End as a frontend that dies does: with no details."""
        self.metadata.append(dict(context.invocation_metadata()))
        context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        return b""

    def _holding(self, unary: bool) -> Any:
        """Return a handler that answers until its caller is gone, or would answer then."""

        def hold(_: bytes, context: Any) -> Iterator[bytes]:
            context.add_callback(self.ended.set)
            self.begun.set()
            piece = generation_pb2.GeneratedPiece(text="more ")
            while not self.ended.wait(0.01):
                yield generation_pb2.StreamGenerationResponse(piece=piece).SerializeToString()

        def hold_one(request: bytes, context: Any) -> bytes:
            return b"".join(hold(request, context))

        if unary:
            return grpc.unary_unary_rpc_method_handler(hold_one)
        return grpc.unary_stream_rpc_method_handler(hold)


@pytest.fixture
def fakes() -> Iterator[list[Fake]]:
    with tempfile.TemporaryDirectory() as folder:
        made = [Fake(Path(folder) / f"frontend-{number}") for number in range(2)]
        for each in made:
            each.start()
        yield made
        for each in made:
            each.stop()


@pytest.fixture
def url(fakes: list[Fake]) -> Iterator[str]:
    with serving(Starlette(routes=rpc.rpc_routes(FrontendChannels([each.target for each in fakes])))) as found:
        yield found


def who(url: str) -> str:
    answer = call(url, LIST, {})
    assert answer.status == 200, answer.text
    name: str = answer.json["serverVersion"]
    return name


def test_frontends_take_turns(url: str, fakes: list[Fake]) -> None:
    who(url)
    eventually(lambda: len({who(url) for _ in range(4)}) == 2, "calls to both frontends")
    assert [who(url) for _ in range(4)].count(fakes[0].name) == 2


def test_a_frontend_that_is_gone_takes_no_call_with_it(url: str, fakes: list[Fake]) -> None:
    eventually(lambda: len({who(url) for _ in range(4)}) == 2, "calls to both frontends")
    fakes[0].stop()
    assert {who(url) for _ in range(20)} == {fakes[1].name}
    fakes[0].start()
    eventually(lambda: fakes[0].name in {who(url), who(url)}, "calls to the frontend that is back")


@pytest.mark.parametrize(
    ("name", "asked"),
    [("TokenizationService/TokenizeTexts", 2), ("EncodingService/StreamLayers", 2), ("ModelService/LoadModel", 1)],
)
def test_what_a_frontend_lost_is_asked_of_another_unless_it_changes_something(
    url: str, fakes: list[Fake], name: str, asked: int
) -> None:
    assert call(url, name, {}).status == 503
    assert sum(len(fake.metadata) for fake in fakes) == asked


def test_where_all_are_gone_that_is_said(url: str, fakes: list[Fake], monkeypatch: pytest.MonkeyPatch) -> None:
    who(url)
    for each in fakes:
        each.stop()
    answer = call(url, LIST, {})
    assert (answer.status, answer.json["code"]) == (503, grpc.StatusCode.UNAVAILABLE.value[0])
    fakes[1].start()
    monkeypatch.setattr(channels, "CONNECT_SECONDS", 60.0)
    assert who(url) == fakes[1].name


def test_what_says_who_calls_is_passed_on(url: str, fakes: list[Fake]) -> None:
    sent = {"authorization": "Bearer bs_x", "x-request-id": "id-7", "traceparent": "00-1", "x-other": "no"}
    call(url, LIST, {}, **sent)
    (metadata,) = [each for fake in fakes for each in fake.metadata]
    assert {name: metadata.get(name) for name in sent} == {**sent, "x-other": None}


@pytest.mark.parametrize("name", ["ModelService/GetModel", "GenerationService/StreamGeneration"])
def test_a_caller_that_leaves_ends_its_call(url: str, fakes: list[Fake], name: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.request("POST", f"/api/rpc/bertstream.v1.{name}", b"{}", JSON)
    if "Stream" in name:
        assert b"more" in connection.getresponse().read(100)
    eventually(lambda: any(each.begun.is_set() for each in fakes), "the call")
    connection.close()
    (begun,) = [each for each in fakes if each.begun.is_set()]
    assert begun.ended.wait(60)


async def test_connections_can_be_closed_and_made_anew(fakes: list[Fake]) -> None:
    frontends = FrontendChannels([fakes[0].target])
    for _ in range(2):
        channel = await frontends.channel()
        answer: Any = channel.unary_unary(f"/bertstream.v1.{LIST}")
        assert fakes[0].name.encode() in await answer(b"")
        await frontends.close()


async def test_waiting_for_a_frontend_can_be_given_up() -> None:
    frontends = FrontendChannels(["unix:/nowhere"])
    waiting = asyncio.create_task(frontends.channel())
    await asyncio.sleep(0.1)
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    assert waiting.cancelled()
    await frontends.close()
