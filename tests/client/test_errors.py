"""Every status becomes its exception, and nothing else escapes."""

from __future__ import annotations

import pickle
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2

import bertstream.client as sdk
import bertstream.client._errors as errors
from bertstream.client._calls.backoff import may_pass
from tests.client.fake_encodings import vector
from tests.client.fake_server import Code, FakeServer, status

KINDS = {
    Code.INVALID_ARGUMENT: sdk.InvalidArgument,
    Code.OUT_OF_RANGE: sdk.InvalidArgument,
    Code.NOT_FOUND: sdk.NotFound,
    Code.FAILED_PRECONDITION: sdk.FailedPrecondition,
    Code.ALREADY_EXISTS: sdk.FailedPrecondition,
    Code.UNAUTHENTICATED: sdk.Unauthenticated,
    Code.PERMISSION_DENIED: sdk.PermissionDenied,
    Code.RESOURCE_EXHAUSTED: sdk.Overloaded,
    Code.UNAVAILABLE: sdk.Unavailable,
    Code.DEADLINE_EXCEEDED: sdk.DeadlineExceeded,
    Code.CANCELLED: sdk.Cancelled,
    Code.ABORTED: sdk.Aborted,
    Code.UNIMPLEMENTED: sdk.Unimplemented,
    Code.INTERNAL: sdk.Internal,
    Code.UNKNOWN: sdk.Internal,
    Code.DATA_LOSS: sdk.Internal,
}
CODES = [code for code in grpc.StatusCode if code is not Code.OK]


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
def test_every_code_has_its_exception(code: grpc.StatusCode) -> None:
    error = errors.error_from_status(status(code))
    assert type(error) is KINDS[code]
    assert (error.code, error.status) == (code, code.name)


def test_a_quota_is_an_overload_of_its_own() -> None:
    told = status(Code.RESOURCE_EXHAUSTED, "used up", "QUOTA_EXCEEDED", retry_seconds=0.5)
    error = errors.error_from_status(told)
    assert type(error) is sdk.QuotaExceeded
    assert isinstance(error, sdk.Overloaded)
    assert (error.retry_after, error.status) == (0.5, "RESOURCE_EXHAUSTED")
    assert type(errors.error_from_status(status(Code.ABORTED, reason="QUOTA_EXCEEDED"))) is sdk.Aborted


def test_the_docstring_draws_the_whole_tree() -> None:
    drawing = errors.BertstreamError.__doc__ or ""
    assert all(
        f"├── {kind.__name__} " in drawing or f"└── {kind.__name__} " in drawing
        for kind in {*KINDS.values(), sdk.QuotaExceeded}
    )


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
def test_nothing_but_the_tree_escapes(server: FakeServer, connect: Any, code: grpc.StatusCode) -> None:
    client = connect(server.address, retries=0)
    calls: list[Any] = [
        lambda: client.encode(["a"]),
        lambda: client.tokenize(["a"]),
        lambda: client.detokenize([[1]]),
        lambda: client.models(),
        lambda: client.model(),
        lambda: client.server_version(),
        *([lambda: client.health()] if code is not Code.NOT_FOUND else []),
        lambda: client.load_model("a", "b"),
        lambda: client.unload_model("a"),
        lambda: client.fill_mask("[MASK]"),
        lambda: client.next_sentence("a", "b"),
        lambda: client.rerank("a", ["b"]),
        lambda: client.choose("a", ["b"]),
    ]
    for call in calls:
        server.does.failures.append(status(code))
        with pytest.raises(KINDS[code]) as caught:
            call()
        assert caught.value.code is code


@pytest.mark.parametrize("code", [code for code in CODES if code not in (Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED)])
def test_nothing_but_the_tree_escapes_from_streams(server: FakeServer, client: Any, code: grpc.StatusCode) -> None:
    calls: list[Any] = [
        lambda: list(client.encode_stream(["a"])),
        lambda: list(client.tokenize_stream(["a"])),
        lambda: client.forward(["a"]),
        lambda: list(client.forward_stream(["a"])),
        lambda: client.encode_spans(["a"], [[(0, 1)]]),
        lambda: list(client.stream_layers(["a"])),
        lambda: list(client.predict_stream("classify", ["a"])),
    ]
    for call in calls:
        server.does.breaks.append((0, status(code, "broken", "R")))
        with pytest.raises(KINDS[code], match="broken") as caught:
            call()
        assert caught.value.reason == "R"


def test_details(server: FakeServer, client: Any) -> None:
    fields = (("options.model", "too long"), ("inputs.texts[0]", "too odd"))
    server.does.failures.append(status(Code.INVALID_ARGUMENT, "wrong", "INVALID_TEXT", fields, 1.5, "r-1"))
    with pytest.raises(sdk.InvalidArgument) as caught:
        client.encode(["a"])
    error = caught.value
    assert (error.message, error.reason, error.request_id, error.retry_after) == ("wrong", "INVALID_TEXT", "r-1", 1.5)
    assert error.fields == list(fields)
    assert error.fields[0].path == "options.model"
    assert error.metadata == {"k": "v"}
    assert str(error) == "wrong (options.model: too long; inputs.texts[0]: too odd)"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (1, "inputs.texts[0]: bad"),
        (2, "inputs.texts[0]: bad; inputs.texts[1]: bad"),
        (3, "inputs.texts[0]: bad; inputs.texts[1]: bad; inputs.texts[2]: bad"),
        (1234, "inputs.texts[0]: bad; inputs.texts[1]: bad; inputs.texts[2]: bad (and 1,231 more)"),
    ],
)
def test_each_field_at_fault_is_said_once(count: int, text: str) -> None:
    fields = tuple((f"inputs.texts[{index}]", "bad") for index in range(min(count, 20)))
    message = "inputs.texts[0]: bad" + (f" (and {count - 1} more)" if count > 1 else "")
    error = errors.error_from_status(status(Code.INVALID_ARGUMENT, message, fields=fields))
    assert (str(error), len(error.fields)) == (text, min(count, 20))
    assert str(errors.error_from_status(status(Code.INVALID_ARGUMENT, message, fields=fields), 7)) == f"item 7: {text}"


def test_internal_errors_show_the_request_id() -> None:
    assert str(errors.error_from_status(status(Code.INTERNAL, "oh", request_id="r-2"))) == "oh (request r-2)"


def test_exceptions_survive_pickling() -> None:
    error = errors.error_from_status(status(Code.NOT_FOUND, "no", "MODEL_NOT_FOUND", retry_seconds=2.0), item_id=3)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.reason, copy.retry_after) == (
        sdk.NotFound,
        "item 3: no",
        "MODEL_NOT_FOUND",
        2.0,
    )


def test_paths_are_those_of_the_callers_list(client: Any) -> None:
    texts = [["w"] if i % 2 else f"t{i}" for i in range(400)]
    texts[301] = ["bad"]
    with pytest.raises(sdk.InvalidArgument, match=r"inputs.texts\[301\] is bad") as caught:
        client.encode(texts)
    assert caught.value.fields == [("inputs.texts[301]", "bad")]


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED])
def test_what_may_pass_is_tried_again(server: FakeServer, client: Any, code: grpc.StatusCode) -> None:
    server.does.failures.append(status(code))
    assert client.encode(["a"]).shape == (1, 8)
    assert server.seen.rpcs["EncodeTexts"] == 2


def test_what_cannot_pass_is_not(server: FakeServer, client: Any) -> None:
    server.does.failures.append(status(Code.INVALID_ARGUMENT))
    with pytest.raises(sdk.InvalidArgument):
        client.encode(["a"])
    assert server.seen.rpcs["EncodeTexts"] == 1


@pytest.mark.parametrize(
    ("error", "may"),
    [
        (sdk.Cancelled("CANCELLED"), True),  # by a server that stops listening in that moment
        (sdk.Cancelled("Channel closed!"), False),
        (sdk.Cancelled("Locally cancelled by application!"), False),
        (sdk.Cancelled("CANCELLED", reason="DRAINING"), False),
        (sdk.Unavailable(""), True),
        (sdk.Overloaded(""), True),
        (sdk.NotFound(""), False),
    ],
)
def test_a_call_that_was_cut_off_may_pass_and_one_that_was_cancelled_may_not(error: sdk.RpcError, may: bool) -> None:
    assert may_pass(error) == may


def test_no_server(connect: Any) -> None:
    with pytest.raises(sdk.Unavailable):
        connect("127.0.0.1:1", retries=0).encode(["a"])


def test_a_text_too_large_is_refused_before_it_is_sent(server: FakeServer, client: Any) -> None:
    for call in (client.encode, client.tokenize):
        with pytest.raises(sdk.InvalidArgument, match=r"inputs.texts\[1\]") as caught:
            call(["a", "b" * 3_000_000])
        assert caught.value.reason == "REQUEST_TOO_LARGE"
        assert caught.value.fields[0].path == "inputs.texts[1]"
    assert not server.seen.rpcs.keys() & {"EncodeTexts", "TokenizeTexts"}


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("x\ud800", "inputs.texts[1]"),
        (("a", "x\ud800"), "inputs.pairs[1]"),
        (["a", "x\ud800"], "inputs.word_lists[1]"),
        ("x" * 3_000_000, "inputs.texts[1]"),
        (("a", "x" * 3_000_000), "inputs.pairs[1]"),
        (["a", "x" * 3_000_000], "inputs.word_lists[1]"),
        ([1] * 1_000_000, "inputs.token_ids[1]"),
    ],
    ids=lambda value: str(value)[:9],
)
def test_paths_are_those_of_the_server(client: Any, text: Any, path: str) -> None:
    calls: list[Any] = [
        ("", lambda: client.encode(["a", text])),
        ("", lambda: client.tokenize(["a", text])),
        ("items.", lambda: list(client.encode_stream(["a", text]))),
        ("items.", lambda: client.forward(["a", text])),
    ]
    for root, call in calls:
        with pytest.raises(sdk.InvalidArgument) as caught:
            call()
        assert [field.path for field in caught.value.fields] == [root + path]
        assert root + path in str(caught.value)


def test_paths_of_ids_to_be_made_text(client: Any) -> None:
    with pytest.raises(sdk.InvalidArgument) as caught:
        client.detokenize([[1], [1] * 1_000_000])
    assert caught.value.fields[0].path == "token_ids[1]"
    with pytest.raises(TypeError, match=r"^token_ids\[1\]: "):
        client.detokenize([[1], ["a"]])


def test_grpcs_own_size_limits(server: FakeServer, connect: Any) -> None:
    small = connect(server.address, max_message_bytes=1000, retries=0)
    with pytest.raises(sdk.InvalidArgument) as sent:
        small.encode("a" * 2000)
    assert (sent.value.reason, sent.value.code) == ("REQUEST_TOO_LARGE", Code.INVALID_ARGUMENT)
    with pytest.raises(sdk.InvalidArgument) as received:
        small.encode(["a"] * 60)
    assert received.value.reason == "RESPONSE_TOO_LARGE"
    server.does.model.limits.max_request_bytes = 100 << 20  # although the server's transport accepts 4 MiB
    with pytest.raises(sdk.InvalidArgument) as refused:
        connect(server.address, retries=0).encode("a" * 5_000_000)
    assert refused.value.reason == "REQUEST_TOO_LARGE"


def test_answers_that_make_no_sense(server: FakeServer, client: Any) -> None:
    server.does.bad_answer = True
    with pytest.raises(sdk.Internal, match="tensor of shape") as caught:
        client.encode(["a"])
    assert caught.value.reason == "UNEXPECTED_RESPONSE"


def test_a_server_that_does_not_describe_its_models(server: FakeServer, client: Any) -> None:
    server.does.failures.append(status(Code.UNIMPLEMENTED))
    (batch,) = client.encode_stream(["a"])
    assert (batch.vectors == vector("text:a")).all()


MISUSE: list[tuple[type[Exception], str, Any]] = [
    (TypeError, "a pair or two texts", ("a", "b")),
    (TypeError, "not bytes", b"abc"),
    (TypeError, r"texts\[1\]: a text is", ["a", None]),
    (TypeError, r"texts\[0\]: a text is", [1, 2]),
    (TypeError, "a text is", [["a", 1]]),
    (TypeError, "a text is", [("a", "b", "c")]),
    (TypeError, "integers", [np.array([1.5])]),
    (ValueError, "from 0 to", [[1, -1]]),
    (ValueError, "from 0 to", [[2**31]]),
    (sdk.InvalidArgument, "not valid Unicode", ["\ud800"]),
]


@pytest.mark.parametrize(("kind", "message", "texts"), MISUSE, ids=lambda value: str(value)[:20])
def test_texts_that_are_none(client: Any, kind: type[Exception], message: str, texts: Any) -> None:
    with pytest.raises(kind, match=message):
        client.encode(texts)


@pytest.mark.parametrize(
    "options",
    [
        {"pooling": "best"},
        {"wire_type": "float64"},
        {"dimensions": 0},
        {"max_length": 0},
        {"truncation": "some"},
        {"truncation_side": "middle"},
        {"priority": "now"},
        {"layer_combination": "max"},
    ],
    ids=str,
)
def test_options_that_are_none(client: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        client.encode(["a"], **options)
    with pytest.raises(TypeError, match="nonsense"):
        client.encode(["a"], nonsense=1)


@pytest.mark.parametrize("seconds", [2**62, -(2**62), 0])
def test_a_delay_beyond_all_time_is_no_fault_of_the_caller(seconds: int) -> None:
    made = status_pb2.Status(code=8, message="busy")
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.seconds = seconds
    made.details.add().Pack(retry)
    assert errors.error_from_status(made).retry_after == seconds
