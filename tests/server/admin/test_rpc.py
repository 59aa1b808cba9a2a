"""Rpcs as JSON over HTTP, in front of a real frontend."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.any_pb2 import Any as Any_
from google.rpc.status_pb2 import Status
from starlette.applications import Starlette

from bertstream.client import Client
from bertstream.server.admin import rpc
from bertstream.server.admin.channels import FrontendChannels
from bertstream.server.admin.statuses import status_answer
from bertstream.server.core.errors import overloaded
from bertstream.server.protocols.statuses import DOMAIN, to_status
from tests.support.generation_checkpoints import tiny_causal
from tests.support.hosted import hosted
from tests.support.web import JSON, Answer, ask, call, serving

TEXTS = ["The quick brown fox", "Größere Straßen 😀"]
PROMPT = {
    "options": {"model": "writer", "maxNewTokens": 8},
    "inputs": {"texts": {"texts": ["The quick brown fox"]}},
}


@pytest.fixture(scope="module")
def address(
    checkpoint: Callable[[str], Path], compile_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    models = {
        "bert": checkpoint("bert-pretraining"),
        "writer": tiny_causal(tmp_path_factory.mktemp("writer") / "writer"),
    }
    with tempfile.TemporaryDirectory() as sockets, hosted(models, compile_cache, Path(sockets)) as found:
        yield found


@pytest.fixture(scope="module")
def url(address: str) -> Iterator[str]:
    with serving(Starlette(routes=rpc.rpc_routes(FrontendChannels([address])))) as found:
        yield found


def reason(answer: Answer) -> str:
    """Return the reason of an error, whose status has the usual details."""
    info = answer.json["details"][0]
    assert info["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    assert info["domain"] == DOMAIN
    found: str = info["reason"]
    return found


def test_a_unary_call_gives_what_a_client_gets(url: str, address: str) -> None:
    answer = call(url, "EncodingService/EncodeTexts", {"inputs": {"texts": {"texts": TEXTS}}})
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["cache-control"] == "no-store"
    pooled = answer.json["encodings"]["pooled"]
    vectors = np.frombuffer(base64.b64decode(pooled["data"]), "<f4").reshape([int(size) for size in pooled["shape"]])
    with Client(address) as client:
        np.testing.assert_array_equal(vectors, client.encode(TEXTS))


def test_text_comes_back_as_it_is(url: str) -> None:
    text = "<img src=x onerror=alert(1)> & \u2028 日本 😀 [MASK]"
    answer = call(url, "TaskService/FillMasks", {"inputs": {"texts": {"texts": [text]}}, "options": {"topK": 1}})
    assert answer.status == 200
    assert len(answer.json["candidates"]["sequences"]) == 1
    tokens = call(url, "TokenizationService/TokenizeTexts", {"inputs": {"texts": {"texts": [text]}}})
    assert max(tokens.json["tokenizations"]["ends"]) == len(text)


def test_a_stream_comes_as_events(url: str) -> None:
    whole = call(url, "GenerationService/GenerateTexts", PROMPT).json["outputs"][0]["texts"][0]
    answer = call(url, "GenerationService/StreamGeneration", PROMPT)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    kinds, messages = zip(*answer.events, strict=True)
    assert kinds == ("message",) * (len(kinds) - 1) + ("end",)
    assert list(messages[0]) == ["started"]
    assert list(messages[-2]) == ["completed"]
    pieces = [message["piece"] for message in messages if "piece" in message]
    assert [number for piece in pieces for number in piece["tokenIds"]] == whole["tokenIds"]
    assert "".join(piece.get("text", "") for piece in pieces) == whole["text"]


def test_a_list_is_what_a_stream_of_requests_takes(url: str) -> None:
    items = {"firstId": 7, "inputs": {"texts": {"texts": TEXTS}}}
    answer = call(url, "EncodingService/StreamEncodings", [{"options": {}}, {"items": items}])
    messages = [message for kind, message in answer.events if kind == "message"]
    assert list(messages[0]) == ["started"]
    assert sorted(number for message in messages[1:] for number in message["items"]["ids"]) == ["7", "8"]


def test_a_stream_that_fails_at_once_is_an_error(url: str) -> None:
    answer = call(url, "GenerationService/StreamGeneration", PROMPT | {"options": {"model": "bert"}})
    assert (answer.status, reason(answer)) == (400, "HEAD_NOT_AVAILABLE")


def test_a_stream_that_fails_later_says_so_in_an_event(url: str) -> None:
    answer = call(url, "EncodingService/StreamEncodings", [{"options": {}}, {"options": {}}])
    assert answer.status == 200
    kinds = [kind for kind, _ in answer.events]
    assert kinds == ["message", "error"]
    assert answer.events[-1][1]["details"][0]["reason"] == "INVALID_STREAM"


@pytest.mark.parametrize(
    ("name", "request_", "status", "expected"),
    [
        ("EncodingService/EncodeTexts", {"options": {"model": "none"}}, 404, "MODEL_NOT_FOUND"),
        ("EncodingService/EncodeTexts", {"inputs": {"texts": {"texts": []}}}, 400, "INVALID_EMPTY_LIST"),
        ("EncodingService/Nothing", {}, 501, "METHOD_NOT_FOUND"),
        ("Nothing/EncodeTexts", {}, 501, "METHOD_NOT_FOUND"),
    ],
)
def test_errors_have_the_status_and_the_details_of_grpc(
    url: str, name: str, request_: Any, status: int, expected: str
) -> None:
    inputs = {"inputs": {"texts": {"texts": ["x"]}}}
    answer = call(url, name, inputs | request_)
    assert (answer.status, reason(answer)) == (status, expected)
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"[{}]",
        b"3",
        b"null",
        b'"x"',
        b'{"inputs": 3}',
        b'{"inputs": [1]}',
        b'{"unknown": 1}',
        b'{"options": {"outputs": ["ENCODING_OUTPUT_NOTHING"]}}',
        b'{"options": {"pooling": {"dimensions": 99999999999}}}',
        b'{"options": {"pooling": {"dimensions": 1e400}}}',
        b'{"inputs": {"texts": {"texts": ["\\ud800"]}}}',
        b'{"inputs": {"texts": {"texts": ["\xff"]}}}',
        b'{"inputs": {"texts": {"texts": [' + b"[" * 100_000,
        b'{"inputs": ' * 500 + b"1" + b"}" * 500,
    ],
    ids=lambda body: body[:50].decode("latin-1"),
)
def test_a_body_that_is_no_request_is_refused_in_one_line(url: str, body: bytes) -> None:
    answer = ask(f"{url}/api/rpc/bertstream.v1.EncodingService/EncodeTexts", body, JSON)
    assert (answer.status, reason(answer)) == (400, "MALFORMED_MESSAGE")
    message = answer.json["message"]
    assert message.startswith("this is not JSON of bertstream.v1.EncodeTextsRequest: ")
    assert "\n" not in message
    assert len(message) < 500


def test_a_stream_of_requests_wants_a_list(url: str) -> None:
    answer = call(url, "EncodingService/StreamEncodings", {"options": {}})
    assert (answer.status, reason(answer)) == (400, "MALFORMED_MESSAGE")
    assert "send a list of objects" in answer.json["message"]


def test_a_body_that_is_too_large_is_refused(url: str) -> None:
    large = {"inputs": {"texts": {"texts": ["x" * rpc.MAX_BODY_BYTES]}}}
    answer = call(url, "EncodingService/EncodeTexts", large)
    assert (answer.status, reason(answer)) == (400, "REQUEST_TOO_LARGE")


def test_an_answer_with_a_retry_says_when() -> None:
    answer = status_answer(to_status(overloaded("busy", 0.2)))
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")


def test_a_detail_of_an_unknown_type_is_left_out() -> None:
    status = Status(code=8, message="busy", details=[Any_(type_url="type.googleapis.com/no.Such", value=b"x")])
    assert json.loads(bytes(status_answer(status).body)) == {"code": 8, "message": "busy"}


def test_headers_that_grpc_does_not_take_are_left_out(url: str) -> None:
    headers = {"x-request-id": "\u00e9", "tracestate": "a=\u00e9"}
    answer = call(url, "EncodingService/EncodeTexts", {"inputs": {"texts": {"texts": TEXTS}}}, **headers)
    assert answer.status == 200


def test_only_posts_are_answered(url: str) -> None:
    assert ask(f"{url}/api/rpc/bertstream.v1.ModelService/ListModels").status == 405


def test_every_rpc_of_the_protocol_is_there() -> None:
    assert len(rpc.RPCS) == 24
    assert all(path == f"/{name}" for name, path in ((name, each.path) for name, each in rpc.RPCS.items()))
    kinds = {(each.client_streaming, each.server_streaming) for each in rpc.RPCS.values()}
    assert kinds == {(False, False), (False, True), (True, True)}
