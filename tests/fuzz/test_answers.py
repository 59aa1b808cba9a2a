"""Whatever a server answers, the client gives a value or raises one of its own exceptions, soon, in little memory."""

from __future__ import annotations

import tracemalloc
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given, note
from hypothesis import strategies as st

from bertstream.client import BertstreamError, Client, DeadlineExceeded, Internal, SpannedText
from bertstream.v1 import encoding_pb2, models_pb2, types_pb2
from tests.client.conftest import AsyncInSync, SyncClient
from tests.client.fake_server import FakeServer
from tests.fuzz.hostile import HostileServer, Script
from tests.fuzz.likely import METHODS, serialized
from tests.fuzz.messages import WILD, damaged, messages, spoilt
from tests.fuzz.running import examples

SECONDS = 60.0
MEMORY_BYTES = 64 << 20
TEXTS = ["ab", "cde f"]
ALL = ["pooled", "pooler_output", "last_hidden_state", "hidden_states", "attentions"]
BY_RPC = {method.name: method for method in METHODS}

# Each of them calls the client, and takes all that it gives.
OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "health": lambda client: client.health(),
    "models": lambda client: client.models(),
    "model": lambda client: client.model("tiny"),
    "load_model": lambda client: client.load_model("tiny", "tiny"),
    "unload_model": lambda client: client.unload_model("tiny"),
    "encode": lambda client: client.encode(TEXTS, report=repr),
    "encode many": lambda client: client.encode(TEXTS * 50),
    "encode int8": lambda client: client.encode(TEXTS, wire_type="int8"),
    "encode_stream": lambda client: list(client.encode_stream(TEXTS * 3, batch_size=2, report=repr)),
    "tokenize": lambda client: client.tokenize(TEXTS, overflow=True, max_length=8),
    "tokenize_stream": lambda client: list(client.tokenize_stream(TEXTS)),
    "detokenize": lambda client: client.detokenize([[5, 6], [7]]),
    "encode_spans": lambda client: client.encode_spans(TEXTS, [[(0, 1)], [(0, 2), (2, 3)]]),
    "forward": lambda client: client.forward(TEXTS, ALL, report=repr),
    "forward int8": lambda client: client.forward(TEXTS, ALL, wire_type="int8"),
    "forward_stream": lambda client: list(
        client.forward_stream([SpannedText(text, [(0, 1)]) for text in TEXTS], [*ALL, "pooled_spans"])
    ),
    "stream_layers": lambda client: list(
        client.stream_layers(TEXTS, ["hidden_states", "attentions", "pooled"], report=repr)
    ),
    "fill_mask": lambda client: client.fill_mask(["[MASK]", "a [MASK]"], report=repr),
    "score_text": lambda client: [each.perplexity for each in client.score_text(TEXTS)],
    "next_sentence": lambda client: client.next_sentence([("a", "b")] * 2),
    "classify": lambda client: client.classify(TEXTS),
    "zero_shot": lambda client: client.zero_shot(TEXTS, ["x", "y"]),
    "rerank": lambda client: client.rerank("q", TEXTS),
    "entities": lambda client: client.entities(["A b", "C"]),
    "answer": lambda client: client.answer([("a", "b")] * 2),
    "choose": lambda client: client.choose([("a", ["b", "c"])] * 2),
    "encode_sparse": lambda client: [each @ each for each in client.encode_sparse(TEXTS, tokens=True)],
    "predict_stream": lambda client: list(client.predict_stream("classify", TEXTS, report=repr)),
    "generate": lambda client: client.generate(TEXTS, max_new_tokens=2, token_scores=True, report=repr),
    "stream_generate": lambda client: list(client.stream_generate("ab", max_new_tokens=2, report=repr)),
    "generate_stream": lambda client: list(client.generate_stream(TEXTS, max_new_tokens=2)),
}
# A tensor of no rows, which are so long that two of them would fill the memory.
NO_ROWS = encoding_pb2.EncodeTextsResponse(
    encodings=encoding_pb2.Encodings(pooled=types_pb2.Tensor(data_type=types_pb2.DATA_TYPE_FLOAT32, shape=[0, 1 << 50]))
).SerializeToString()
MANY_TOKENS = encoding_pb2.StreamLayersResponse(
    started=encoding_pb2.LayersStarted(token_counts=[2**31 - 1])
).SerializeToString()
ONE_ROW = encoding_pb2.StreamLayersResponse(
    rows=encoding_pb2.TensorRows(
        source=encoding_pb2.ROW_SOURCE_HIDDEN_STATE,
        rows=types_pb2.Tensor(data_type=types_pb2.DATA_TYPE_FLOAT32, shape=[1, 256], data=bytes(1024)),
    )
).SerializeToString()
CLIENTS: dict[str, type[Client] | type[AsyncInSync]] = {"sync": SyncClient, "async": AsyncInSync}


@dataclass
class Asked:
    """A hostile server, and what a good one has answered to each operation."""

    server: HostileServer
    good: dict[str, list[tuple[str, list[bytes]]]] = field(default_factory=dict)
    peak: int = 0  # bytes that the last call took

    def connect(self, kind: str) -> Any:
        return CLIENTS[kind](self.server.address, retries=0, reconnect_seconds=0.05, timeout=SECONDS)

    def outcome(self, kind: str, name: str, calls: list[tuple[str, Script]]) -> BertstreamError | None:
        """Return what is raised where an operation's calls are answered so."""
        self.server.scripts = {rpc: deque(script for of, script in calls if of == rpc) for rpc, _ in calls}
        client = self.connect(kind)
        tracemalloc.start()
        try:
            OPERATIONS[name](client)
        except BertstreamError as error:
            return error
        finally:
            self.peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            client.end()
        return None


@pytest.fixture(scope="module")
def asked() -> Iterator[Asked]:
    fake = FakeServer()
    with grpc.insecure_channel(fake.address) as channel:
        hostile = HostileServer(channel)
        found = Asked(hostile)
        for name, operation in OPERATIONS.items():
            client = found.connect("sync")
            operation(client)
            client.end()
            found.good[name] = list(hostile.noted)
            hostile.noted.clear()
        yield found
        hostile.close()
    fake.close()


def changed(method: MethodDescriptor | None, raw: bytes) -> st.SearchStrategy[bytes]:
    """Return an answer with something wrong; `method` None is for health checks, which have no descriptor here."""
    good = st.just(raw)
    if method is None:
        return damaged(good) | st.binary(max_size=20)
    kind = GetMessageClass(method.output_type)
    once = spoilt(st.builds(kind.FromString, good))
    parsed: st.SearchStrategy[Message] = st.one_of(once, once, spoilt(once), messages(method.output_type))
    return st.one_of(parsed.map(serialized), parsed.map(serialized), damaged(good))


@st.composite
def scripts(draw: st.DrawFn, good: list[tuple[str, list[bytes]]]) -> list[tuple[str, Script]]:
    """Return the calls of one operation, with one of the answers changed, left out or given again."""
    calls = [(rpc, Script(list(answers))) for rpc, answers in good]
    rpc, script = calls[draw(st.integers(0, len(calls) - 1))]
    index = draw(st.integers(0, len(script.messages) - 1))
    match draw(st.integers(0, 9)):
        case 0:
            del script.messages[index:]
        case 1 if rpc.startswith("Stream"):  # of others gRPC leaves the second one unread, and waits for the end
            script.messages.insert(index, script.messages[index])
        case _:
            script.messages[index] = draw(changed(BY_RPC.get(rpc), script.messages[index]))
    return calls


def details() -> st.SearchStrategy[bytes]:
    """Return a google.rpc.Status of any kind."""
    kinds = (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo)
    inner = st.one_of(*(messages(cast(Descriptor, kind.DESCRIPTOR)) for kind in kinds))

    def status(parts: list[Message], code: int, text: str, damage: bytes) -> bytes:
        made = status_pb2.Status(code=code, message=text)
        for part in parts:
            made.details.add().Pack(part)
            made.details[-1].value += damage
        return made.SerializeToString()[:6000]  # more than so much metadata is gRPC's to refuse

    whole = st.builds(
        status,
        st.lists(inner, max_size=3),
        WILD[1],
        st.text(max_size=20),
        st.sampled_from([b"", b"", b"\xff", b"\x0a\xff"]),
    )
    return whole | st.binary(max_size=40)


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize("name", OPERATIONS)
@given(data=st.data())
@examples(8)
def test_whatever_is_answered(name: str, kind: str, asked: Asked, data: Any) -> None:
    error = asked.outcome(kind, name, data.draw(scripts(asked.good[name])))
    note(repr(error))
    assert not isinstance(error, DeadlineExceeded)  # it would have waited for ever
    assert asked.peak < MEMORY_BYTES


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize("name", ["encode", "encode_stream", "stream_layers"])
@given(code=st.sampled_from(list(grpc.StatusCode)), text=st.text(max_size=20), details=details())
@examples(25)
def test_whatever_status_a_call_ends_with(
    name: str, kind: str, asked: Asked, code: grpc.StatusCode, text: str, details: bytes
) -> None:
    calls = [(rpc, Script(answers[:-1], code, text, details)) for rpc, answers in asked.good[name]]
    error = asked.outcome(kind, name, calls)
    note(repr(error))
    assert error is None or str(error)
    assert asked.peak < MEMORY_BYTES


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize(
    ("name", "rpc", "answers"),
    [
        ("encode", "EncodeTexts", []),
        ("models", "ListModels", []),
        ("classify", "ClassifyTexts", []),
        ("generate", "GenerateTexts", []),
        ("encode", "EncodeTexts", [NO_ROWS]),
        ("stream_layers", "StreamLayers", [MANY_TOKENS, ONE_ROW]),
    ],
)
def test_what_makes_no_sense_is_an_error_that_says_so(
    name: str, rpc: str, answers: list[bytes], kind: str, asked: Asked
) -> None:
    error = asked.outcome(kind, name, [(rpc, Script(answers))])
    assert isinstance(error, Internal)
    assert error.reason == "UNEXPECTED_RESPONSE"
    assert asked.peak < MEMORY_BYTES


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize(
    ("name", "rpc"),
    [
        ("encode", "EncodeTexts"),
        ("model", "GetModel"),
        ("encode_stream", "StreamEncodings"),
        ("stream_layers", "StreamLayers"),
        ("stream_generate", "StreamGeneration"),
    ],
)
def test_bytes_that_are_no_message_end_a_call(name: str, rpc: str, kind: str, asked: Asked) -> None:
    """Even the last one's: gRPC's asyncio gives None in its place."""
    for index in range(max(len(answers) for each, answers in asked.good[name] if each == rpc)):
        calls = [(each, Script(list(answers))) for each, answers in asked.good[name]]
        for each, script in calls:
            if each == rpc:
                script.messages[index:] = [b"\xff"]
        assert isinstance(asked.outcome(kind, name, calls), Internal), index


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", CLIENTS)
def test_limits_below_nothing_are_none(kind: str, asked: Asked) -> None:
    [(rpc, _), *rest] = asked.good["predict_stream"]
    model = models_pb2.GetModelResponse(model=models_pb2.Model(limits=models_pb2.ModelLimits(max_texts=-1)))
    calls = [(rpc, Script([serialized(model)])), *((name, Script(answers)) for name, answers in rest)]
    assert asked.outcome(kind, "predict_stream", calls) is None
