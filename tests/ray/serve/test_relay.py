from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc
import pytest

from bertstream.ray.serve.contract import ENDED, Metadata
from bertstream.ray.serve.relay import add_bertstream, relayed_metadata


def relayed(given: Metadata, seconds: float | None = None, model: str = "") -> dict[str, str | bytes]:
    pairs = relayed_metadata(given, seconds, model)
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def test_the_callers_metadata_is_passed_on() -> None:
    found = relayed([("authorization", "Bearer x"), ("x-bin", b"\0")])
    assert (found["authorization"], found["x-bin"]) == ("Bearer x", b"\0")


def test_ray_and_we_have_one_id_for_a_request() -> None:
    found = relayed([("x-request-id", "mine"), ("request_id", "other")])
    assert (found["x-request-id"], found["request_id"]) == ("mine", "mine")
    made = relayed([])
    assert made["x-request-id"] == made["request_id"]
    assert made["x-request-id"] != relayed([])["x-request-id"]


@pytest.mark.parametrize("given", ["not an id", "", "x" * 200])
def test_an_id_that_is_none_is_replaced(given: str) -> None:
    assert relayed([("x-request-id", given)])["x-request-id"] != given


def test_the_deadline_is_told_and_a_callers_claim_is_not() -> None:
    assert relayed([("bertstream-seconds-left", "99")], 2.5)["bertstream-seconds-left"] == "2.5"
    assert "bertstream-seconds-left" not in relayed([("bertstream-seconds-left", "99")])


def test_the_application_is_the_models_unless_the_caller_names_one() -> None:
    assert relayed([], model="org/bert")["application"] == "org--bert"
    assert relayed([("application", "a")], model="bert")["application"] == "a"
    assert "application" not in relayed([])


class RaysServer:
    """A gRPC server that does with handlers what Ray's does: puts its own in their place."""

    def __init__(self, server: grpc.aio.Server, answering: Callable[..., AsyncIterator[bytes]]) -> None:
        self._server = server
        self._answering = answering

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        (handler,) = handlers
        handler._method_handlers = {
            method: each._replace(unary_unary=self._single, unary_stream=self._answering, stream_stream=self._answering)
            for method, each in handler._method_handlers.items()
        }
        self._server.add_generic_rpc_handlers(handlers)

    async def _single(self, request: Any, context: Any) -> bytes:
        return [answer async for answer in self._answering(request, context)][-1]


async def ask(
    answering: Callable[..., AsyncIterator[bytes]], rpc: str
) -> tuple[list[bytes], grpc.aio.AioRpcError | None]:
    """Return what a caller gets whose call Ray answers so: the messages, and the error, if it ends with one."""
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    add_bertstream(None, RaysServer(server, answering))
    await server.start()
    got: list[bytes] = []
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            method = f"/bertstream.v1.EncodingService/{rpc}"
            call: Any = channel.unary_unary(method) if rpc == "EncodeTexts" else channel.unary_stream(method)
            try:
                if rpc == "EncodeTexts":
                    got.append(await call(b""))
                else:
                    got.extend([message async for message in call(b"")])
            except grpc.aio.AioRpcError as error:
                return got, error
            return got, None
    finally:
        await server.stop(None)


async def whole(request: Any, context: Any) -> AsyncIterator[bytes]:
    yield b"answer"
    context.set_trailing_metadata([("x-request-id", "1")])
    context.set_code(grpc.StatusCode.OK)


async def refused(request: Any, context: Any) -> AsyncIterator[bytes]:
    context.set_code(grpc.StatusCode.INVALID_ARGUMENT)
    context.set_details("it is wrong")
    context.set_trailing_metadata([("request_id", "1"), ("grpc-status-details-bin", b"details")])
    yield ENDED


async def lost(request: Any, context: Any) -> AsyncIterator[bytes]:
    yield b"answer"
    context.set_code(grpc.StatusCode.INTERNAL)
    context.set_details("Traceback (most recent call last): …")


async def cut_off(request: Any, context: Any) -> AsyncIterator[bytes]:
    yield b"answer"
    context.set_code(grpc.StatusCode.OK)


async def test_an_answer_is_passed_on() -> None:
    assert await ask(whole, "EncodeTexts") == ([b"answer"], None)


@pytest.mark.parametrize("rpc", ["EncodeTexts", "StreamLayers"])
async def test_a_replicas_error_keeps_its_details_and_its_last_message_is_not_passed_on(rpc: str) -> None:
    got, error = await ask(refused, rpc)
    assert error is not None
    assert (got, error.code(), error.details()) == ([], grpc.StatusCode.INVALID_ARGUMENT, "it is wrong")
    assert dict(error.trailing_metadata()) == {"grpc-status-details-bin": b"details"}


@pytest.mark.parametrize(
    ("rpc", "answering"), [("EncodeTexts", lost), ("StreamLayers", lost), ("StreamLayers", cut_off)]
)
async def test_what_is_lost_can_be_tried_again_and_shows_nothing_of_ray(
    rpc: str, answering: Callable[..., AsyncIterator[bytes]]
) -> None:
    _, error = await ask(answering, rpc)
    assert error is not None
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "Traceback" not in str(error.details())
    assert int(dict(error.trailing_metadata())["grpc-retry-pushback-ms"]) > 0
