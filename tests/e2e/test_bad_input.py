"""Every kind of bad input gets its own status with details, and the next call works."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from bertstream.client import Client, InvalidArgument
from bertstream.v1 import (
    encoding_pb2,
    encoding_pb2_grpc,
    models_pb2,
    tokenization_pb2,
    tokenization_pb2_grpc,
    types_pb2,
)
from tests.support import hosted
from tests.support.http2 import answered
from tests.support.server import Server

ENCODE = "/bertstream.v1.EncodingService/EncodeTexts"
TOKENIZE = "/bertstream.v1.TokenizationService/TokenizeTexts"
DETOKENIZE = "/bertstream.v1.TokenizationService/DetokenizeTokens"
GET_MODEL = "/bertstream.v1.ModelService/GetModel"

Options = encoding_pb2.EncodingOptions
Pooling = encoding_pb2.PoolingOptions


@dataclass(frozen=True)
class Answer:
    code: grpc.StatusCode
    reason: str
    domain: str
    fields: list[str]
    request_id: str
    message: str


@pytest.fixture
def channel(server: Server) -> Iterator[grpc.Channel]:
    options = [("grpc.max_send_message_length", -1), ("grpc.enable_retries", 0)]
    with grpc.insecure_channel(server.address, options=options) as opened:
        yield opened


def call(channel: grpc.Channel, rpc: str, request: Message | bytes) -> Answer:
    """Make a call that must fail, and read the google.rpc.Status."""
    raw = request if isinstance(request, bytes) else request.SerializeToString()
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(rpc, request_serializer=bytes)(raw, timeout=240)
    return read(caught.value)


def read(error: Any) -> Answer:
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    assert status.code == error.code().value[0]
    info, bad, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RequestInfo()
    for detail in status.details:
        for message in (info, bad, request):
            detail.Unpack(message)
    fields = [violation.field for violation in bad.field_violations]
    return Answer(error.code(), info.reason, info.domain, fields, request.request_id, status.message)


def texts(*listed: str) -> types_pb2.TextBatch:
    return types_pb2.TextBatch(texts=types_pb2.Texts(texts=listed))


def ids(token_ids: list[int], lengths: list[int], type_ids: list[int] | None = None) -> types_pb2.TextBatch:
    columns = types_pb2.TokenIdLists(token_ids=token_ids, lengths=lengths, token_type_ids=type_ids or [])
    return types_pb2.TextBatch(token_ids=columns)


def encode(inputs: types_pb2.TextBatch | None = None, **options: Any) -> encoding_pb2.EncodeTextsRequest:
    return encoding_pb2.EncodeTextsRequest(options=Options(**options), inputs=inputs or texts("fox"))


def spans(inputs: types_pb2.TextBatch, unit: encoding_pb2.SpanUnit.ValueType, **options: Any) -> Any:
    request = encode(inputs, outputs=[encoding_pb2.ENCODING_OUTPUT_POOLED_SPANS], **options)
    request.spans.CopyFrom(encoding_pb2.SpanLists(span_counts=[1], starts=[0], ends=[1], unit=unit))
    return request


INVALID = grpc.StatusCode.INVALID_ARGUMENT
UNKNOWN: Any = 42  # a value of no enum
PAIRS_OF_UNEQUAL_LENGTHS = types_pb2.TextBatch(pairs=types_pb2.TextPairs(first_texts=["a", "b"], second_texts=["c"]))
WORDS_MISCOUNTED = types_pb2.TextBatch(word_lists=types_pb2.WordLists(words=["a", "b"], word_counts=[1, 2]))
WORDS = types_pb2.TextBatch(word_lists=types_pb2.WordLists(words=["a", "b"], word_counts=[2]))
TOKENS = [tokenization_pb2.TOKENIZATION_OUTPUT_TOKENS]
REFUSE = types_pb2.TruncationOptions(strategy=types_pb2.TRUNCATION_STRATEGY_REFUSE)

ENCODE_CASES: dict[str, tuple[encoding_pb2.EncodeTextsRequest, str, list[str]]] = {
    "nothing": (encoding_pb2.EncodeTextsRequest(), "INVALID_EMPTY_LIST", ["inputs"]),
    "empty list": (encode(texts()), "INVALID_EMPTY_LIST", ["inputs.texts"]),
    "unknown output": (encode(outputs=[1, 99]), "INVALID_ENUM", ["options.outputs[1]"]),
    "unspecified output": (encode(outputs=[0]), "INVALID_ENUM", ["options.outputs[0]"]),
    "unknown pooling": (encode(pooling=Pooling(mode=UNKNOWN)), "INVALID_ENUM", ["options.pooling.mode"]),
    "unknown type": (encode(data_type=42), "INVALID_ENUM", ["options.data_type"]),
    "unknown priority": (encode(priority=42), "INVALID_ENUM", ["options.priority"]),
    "unknown side": (
        encode(truncation=types_pb2.TruncationOptions(side=UNKNOWN)),
        "INVALID_ENUM",
        ["options.truncation.side"],
    ),
    "layer too high": (encode(pooling=Pooling(layers=[0, 7])), "INVALID_RANGE", ["options.pooling.layers[1]"]),
    "layer too low": (encode(pooling=Pooling(layers=[-8])), "INVALID_RANGE", ["options.pooling.layers[0]"]),
    "layer twice": (encode(pooling=Pooling(layers=[6, -1])), "INVALID_COMBINATION", ["options.pooling.layers"]),
    "too many dimensions": (encode(pooling=Pooling(dimensions=385)), "INVALID_RANGE", ["options.pooling.dimensions"]),
    "negative dimensions": (encode(pooling=Pooling(dimensions=-1)), "INVALID_RANGE", ["options.pooling.dimensions"]),
    "max length too high": (
        encode(truncation=types_pb2.TruncationOptions(max_length=513)),
        "INVALID_RANGE",
        ["options.truncation.max_length"],
    ),
    "max length negative": (
        encode(truncation=types_pb2.TruncationOptions(max_length=-1)),
        "INVALID_RANGE",
        ["options.truncation.max_length"],
    ),
    "unknown prompt": (encode(prompt_name="query"), "INVALID_PROMPT_NAME", ["options.prompt_name"]),
    "prompt before ids": (encode(ids([5], [1]), prompt="query: "), "INVALID_COMBINATION", ["options.prompt"]),
    "id beyond the vocabulary": (encode(ids([5, 30522, 7], [1, 2])), "INVALID_TOKEN_ID", ["inputs.token_ids[1]"]),
    "negative id": (encode(ids([5, -1], [1, 1])), "INVALID_TOKEN_ID", ["inputs.token_ids[1]"]),
    "type id beyond": (encode(ids([5, 6], [2], [0, 2])), "INVALID_TOKEN_TYPE_ID", ["inputs.token_ids[0]"]),
    "no ids": (encode(ids([5], [1, 0])), "INVALID_EMPTY_TEXT", ["inputs.token_ids[1]"]),
    "lengths that do not add up": (encode(ids([5, 6], [1])), "INVALID_LENGTHS", ["inputs.token_ids"]),
    "negative length": (encode(ids([5], [2, -1])), "INVALID_LENGTHS", ["inputs.token_ids"]),
    "lists of unequal lengths": (encode(PAIRS_OF_UNEQUAL_LENGTHS), "INVALID_LENGTHS", ["inputs.pairs"]),
    "words miscounted": (encode(WORDS_MISCOUNTED), "INVALID_LENGTHS", ["inputs.word_lists"]),
    "too long and refused": (
        encode(texts("fox", "fox " * 600, "fox", "fox " * 700), truncation=REFUSE),
        "INVALID_TEXT_LENGTH",
        ["inputs.texts[1]", "inputs.texts[3]"],
    ),
    "no tokens at all": (encode(texts("fox", ""), add_special_tokens=False), "INVALID_EMPTY_TEXT", ["inputs.texts[1]"]),
    "a million texts": (encode(texts(*["a"] * 1_000_000)), "REQUEST_TOO_LARGE", ["inputs.texts"]),
    "an answer too large": (
        encode(texts(*["fox " * 250] * 40), outputs=[encoding_pb2.ENCODING_OUTPUT_LAST_HIDDEN_STATE]),
        "REQUEST_TOO_LARGE",
        ["options.outputs"],
    ),
    "too many tokens to show": (
        encode(texts(*["fox " * 250] * 3000), pooling=Pooling(dimensions=1), token_outputs=TOKENS),
        "REQUEST_TOO_LARGE",
        ["options.outputs"],
    ),
    "too long, with a span": (
        spans(texts("fox " * 600), encoding_pb2.SPAN_UNIT_TOKENS, truncation=REFUSE),
        "INVALID_TEXT_LENGTH",
        ["inputs.texts[0]"],
    ),
    "characters of words": (
        spans(WORDS, encoding_pb2.SPAN_UNIT_CHARACTERS),
        "INVALID_COMBINATION",
        ["spans.unit"],
    ),
}


@pytest.mark.parametrize("case", ENCODE_CASES)
def test_bad_encode_requests(client: Client, channel: grpc.Channel, case: str) -> None:
    request, reason, fields = ENCODE_CASES[case]
    answer = call(channel, ENCODE, request)
    assert (answer.code, answer.reason, answer.fields) == (INVALID, reason, fields)
    assert answer.domain == "bertstream.dev"
    assert answer.request_id
    assert client.encode(["fox"]).shape == (1, 384)


def test_a_text_of_100_megabytes(client: Client, channel: grpc.Channel) -> None:
    answer = call(channel, ENCODE, encode(texts("fox " * 25_000_000)))
    assert (answer.code, answer.reason) == (INVALID, "REQUEST_TOO_LARGE")
    with pytest.raises(InvalidArgument) as caught:
        client.encode(["fox", "fox " * 25_000_000])
    assert caught.value.reason == "REQUEST_TOO_LARGE"
    assert client.encode(["fox"]).shape == (1, 384)


def test_bytes_that_are_not_utf8(client: Client, channel: grpc.Channel) -> None:
    raw = encode(texts("fox", "qqqq", "dog")).SerializeToString().replace(b"qqqq", b"\xff\xfe\xc3(")
    answer = call(channel, ENCODE, raw)
    assert (answer.code, answer.reason, answer.fields) == (INVALID, "INVALID_UTF8", ["inputs.texts[1]"])
    named = tokenization_pb2.TokenizeTextsRequest(
        options=tokenization_pb2.TokenizationOptions(model="qqqq"), inputs=texts("fox")
    )
    answer = call(channel, TOKENIZE, named.SerializeToString().replace(b"qqqq", b"\xff\xfe\xc3("))
    assert answer.code in (INVALID, grpc.StatusCode.NOT_FOUND)
    assert client.encode(["fox"]).shape == (1, 384)


def test_bytes_that_are_no_message(client: Client, channel: grpc.Channel) -> None:
    for rpc in (ENCODE, TOKENIZE, GET_MODEL):
        answer = call(channel, rpc, b"\x0a\xff\xff\xff\xff\x0fgarbage")
        assert (answer.code, answer.reason) == (INVALID, "MALFORMED_MESSAGE")
    assert client.encode(["fox"]).shape == (1, 384)


def test_an_unknown_model(channel: grpc.Channel) -> None:
    for rpc, request in (
        (ENCODE, encode(model="nobody")),
        (
            TOKENIZE,
            tokenization_pb2.TokenizeTextsRequest(
                options=tokenization_pb2.TokenizationOptions(model="nobody"), inputs=texts("fox")
            ),
        ),
        (GET_MODEL, models_pb2.GetModelRequest(name="nobody")),
        (DETOKENIZE, tokenization_pb2.DetokenizeTokensRequest(model="nobody")),
    ):
        answer = call(channel, rpc, request)
        assert (answer.code, answer.reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")
        assert "all-MiniLM-L6-v2" in answer.message


def test_detokenizing_ids_beyond_the_vocabulary(channel: grpc.Channel) -> None:
    columns = types_pb2.TokenIdLists(token_ids=[5, 99_999], lengths=[1, 1])
    answer = call(channel, DETOKENIZE, tokenization_pb2.DetokenizeTokensRequest(token_ids=columns))
    assert (answer.code, answer.fields) == (INVALID, ["token_ids[1]"])


def test_more_tokens_than_an_answer_may_have(client: Client, channel: grpc.Channel) -> None:
    request = tokenization_pb2.TokenizeTextsRequest(inputs=texts(*["fox " * 250] * 1500))
    answer = call(channel, TOKENIZE, request)
    assert (answer.code, answer.reason) == (INVALID, "REQUEST_TOO_LARGE")
    # The lengths alone show it: windows that overlap have several times as many tokens as the text.
    windows = tokenization_pb2.TokenizationOptions(
        truncation=types_pb2.TruncationOptions(max_length=256), overflowing_windows=True, stride=230
    )
    answer = call(
        channel, TOKENIZE, tokenization_pb2.TokenizeTextsRequest(options=windows, inputs=texts("a " * 500_000))
    )
    assert (answer.code, answer.reason) == (INVALID, "REQUEST_TOO_LARGE")
    assert client.tokenize(["fox"])


def test_vectors_that_do_not_fit_the_last_message_of_a_stream_of_layers(server: Server) -> None:
    options = Options(outputs=[encoding_pb2.ENCODING_OUTPUT_POOLED])
    request = encoding_pb2.StreamLayersRequest(options=options, inputs=texts(*["fox"] * 4000))
    with grpc.insecure_channel(server.address) as opened, pytest.raises(grpc.RpcError) as caught:
        list(encoding_pb2_grpc.EncodingServiceStub(opened).StreamLayers(request, timeout=60))
    assert read(caught.value).reason == "REQUEST_TOO_LARGE"


def test_a_message_with_many_tokens_is_answered_in_several(server: Server) -> None:
    options = tokenization_pb2.StreamTokenizationsRequest(options=tokenization_pb2.TokenizationOptions())
    batch = texts(*["fox " * 250] * 500, "\U0001f98a")
    items = tokenization_pb2.TokenizationItems(first_id=7, inputs=batch)
    requests = [options, tokenization_pb2.StreamTokenizationsRequest(items=items)]
    with grpc.insecure_channel(server.address) as opened:
        stub = tokenization_pb2_grpc.TokenizationServiceStub(opened)
        answers = [answer.items for answer in stub.StreamTokenizations(iter(requests), timeout=60)][1:]
    assert [each for answer in answers for each in answer.ids] == list(range(7, 508))
    assert max(answer.ByteSize() for answer in answers) < 1.2 * 2**20
    assert sum(answer.usage.tokens for answer in answers) == 500 * 252 + 3


def test_windows_of_pairs(channel: grpc.Channel) -> None:
    pairs = types_pb2.TextBatch(pairs=types_pb2.TextPairs(first_texts=["a"], second_texts=["b"]))
    options = tokenization_pb2.TokenizationOptions(overflowing_windows=True)
    answer = call(channel, TOKENIZE, tokenization_pb2.TokenizeTextsRequest(options=options, inputs=pairs))
    assert (answer.code, answer.reason) == (INVALID, "INVALID_WINDOWS")


class TestStreams:
    """Items fail alone; a message that makes no sense as a whole ends the stream."""

    @staticmethod
    def answers(server: Server, *requests: bytes) -> list[encoding_pb2.StreamEncodingsResponse]:
        with grpc.insecure_channel(server.address) as channel:
            rpc: Any = channel.stream_stream(
                "/bertstream.v1.EncodingService/StreamEncodings",
                response_deserializer=encoding_pb2.StreamEncodingsResponse.FromString,
            )
            return list(rpc(iter(requests), timeout=240))

    @staticmethod
    def options(**options: Any) -> bytes:
        return encoding_pb2.StreamEncodingsRequest(options=Options(**options)).SerializeToString()

    @staticmethod
    def items(inputs: types_pb2.TextBatch, **items: Any) -> bytes:
        message = encoding_pb2.EncodingItems(inputs=inputs, **items)
        return encoding_pb2.StreamEncodingsRequest(items=message).SerializeToString()

    def test_bad_items_fail_alone(self, server: Server) -> None:
        mixed = self.items(ids([5, 6, 99_999, 7], [1, 1, 1, 1]), ids=[70, 71, 72, 73])
        not_utf8 = self.items(texts("fox", "qqqq", "dog"), first_id=100).replace(b"qqqq", b"\xff\xfe\xc3(")
        started, *answers = self.answers(server, self.options(), mixed, not_utf8)
        assert started.started.window.max_items > 0
        done = sorted(item for answer in answers for item in answer.items.ids)
        errors = {error.id: error.status for answer in answers for error in answer.items.errors}
        assert done == [70, 71, 73, 100, 102]
        assert sorted(errors) == [72, 101]
        assert all(status.code == INVALID.value[0] for status in errors.values())
        assert "items.inputs.token_ids[2]" in errors[72].message
        assert "UTF-8" in errors[101].message

    @pytest.mark.parametrize(
        ("requests", "reason"),
        [
            ([items.__func__(texts("fox"))], "INVALID_STREAM"),  # type: ignore[attr-defined]
            ([options.__func__(), options.__func__()], "INVALID_STREAM"),  # type: ignore[attr-defined]
            ([options.__func__(), b"\xff\xff"], "MALFORMED_MESSAGE"),  # type: ignore[attr-defined]
            ([options.__func__(), items.__func__(texts("a", "b"), ids=[1])], "INVALID_LENGTHS"),  # type: ignore[attr-defined]
            ([options.__func__(), items.__func__(texts(*["a"] * 5000))], "REQUEST_TOO_LARGE"),  # type: ignore[attr-defined]
            ([options.__func__(outputs=[77])], "INVALID_ENUM"),  # type: ignore[attr-defined]
        ],
    )
    def test_messages_that_make_no_sense_end_the_stream(
        self, server: Server, client: Client, requests: list[bytes], reason: str
    ) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            self.answers(server, *requests)
        answer = read(caught.value)
        assert (answer.code, answer.reason) == (INVALID, reason)
        assert client.encode(["fox"]).shape == (1, 384)

    def test_a_stream_without_a_message_ends_well(self, server: Server) -> None:
        assert self.answers(server) == []


def test_wrong_method_and_wrong_stub(server: Server) -> None:
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/bertstream.v1.EncodingService/Nothing", request_serializer=bytes)(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    with grpc.insecure_channel(server.address) as channel:
        answer = encoding_pb2_grpc.EncodingServiceStub(channel).EncodeTexts(encode())
    assert answer.usage.texts == 1


def test_paths_and_metadata_that_are_no_text(server: Server, client: Client) -> None:
    """What gRPC itself logs of them would quote the caller's bytes, which may be a key."""
    if hosted.through_ray:
        pytest.skip("such a call ends the gRPC server of Ray's proxy")
    assert b"grpc-status\x0212" in asyncio.run(answered(server.address, "/\udcff"))
    for name in ("authorization", "traceparent", "x-request-id"):
        listed = answered(server.address, "/bertstream.v1.ModelService/ListModels", b"", **{name: "secret\udcff"})
        assert b"grpc-status\x010" in asyncio.run(listed)
    assert client.encode(["fox"]).shape == (1, 384)
    assert not [line for line in server.log if "secret" in line or "Traceback" in line]
