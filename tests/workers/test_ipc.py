from __future__ import annotations

import contextlib
import math
import socket
import threading
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import msgpack

from bertstream.workers import ipc
from bertstream.workers.contract import (
    BULK,
    Batch,
    Cancel,
    Completed,
    EarlyStopping,
    Failure,
    FinishReason,
    Generate,
    Generated,
    GenerationOptions,
    HeadName,
    HeadOptions,
    Hello,
    Output,
    OutputOptions,
    Pooling,
    Result,
    ScoreFunction,
    Spans,
    Work,
)
from tests.support.works import make_batch

POOLING = Pooling("mean", (0, 3), "concatenate", True, 7)
HEAD = HeadOptions("fill_mask", "none", 5, (3, 1), 7)
OPTIONS = GenerationOptions(9, 2, 3, 2, 0.5, "never", True, 0.7, 4, 0.9, 2**63, 1.2, 3, ((5,), (6, 7)), (102, 3), True)


def column(kind: Any, *values: float) -> np.ndarray:
    return np.array(values, kind)


SPANS = Spans(column(np.int32, 2, 0), column(np.int32, 0, 2), column(np.int32, 1, 1))
MESSAGES: list[ipc.Message] = [
    Work(1, make_batch([3, 1]), OutputOptions(("pooled", "last_hidden_state"), POOLING, "int8"), BULK, 12.5, True),
    Work(2**62, make_batch([2], type_ids=True), OutputOptions(("pooler_output",))),
    Work(3, replace(make_batch([3, 1]), spans=SPANS), OutputOptions(("mask_candidates",), head=HEAD)),
    Work(
        4, replace(make_batch([3, 1]), spans=replace(SPANS, ids=column(np.int32, 7, 9))), OutputOptions((), head=HEAD)
    ),
    Work(5, make_batch([1]), OutputOptions(()), session=7, final=False, caller="schlüssel", weight=2.5, admitted=True),
    Generate(6, column(np.int32, 101, 5), OPTIONS, column(np.int32, 0, 1), BULK, 12.5, True, "10.0.0.7", 0.5),
    Generate(7, column(np.int32, 101), GenerationOptions(1)),
    Generated(column(np.int64, 2**40), column(np.int32, 1), column(np.int32, 17), column(np.float32, -0.25)),
    Completed(
        id=6,
        reasons=("length", "end_of_sequence"),
        lengths=column(np.int32, 2, 1),
        tokens=column(np.int32, 3, 4, 102),
        token_scores=column(np.float32, -0.5, -1, -2),
        scores=column(np.float32, -1.5, -2),
        queue_seconds=0.25,
        compute_seconds=1.5,
        wait_seconds=0.75,
    ),
    Cancel((3, 4)),
    Cancel(()),
    Hello("worker-0", 17, 2, 4096, 370, "/tmp/ü.running", wait_seconds=2.5, batch_seconds=0.125),
    Result(8, {"pooled": np.zeros((1, 2), np.float32)}, 0.25, 0.5, 0.75, 0.125),
    Failure(5, "overloaded", "late", 1.5, 2.5),
    Failure(5, "out_of_memory", "größer als der Speicher 🚀"),
]
DTYPES = ["float32", "float16", "int16", "int8", "uint16", "int32", "int64", "bool"]


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for each in (ours, theirs):
            each.settimeout(20)
        yield ours, theirs


def same(one: Any, other: Any) -> bool:
    """Compare messages, arrays included."""
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and bool((one == other).all())
    if is_dataclass(one):
        return type(one) is type(other) and all(
            same(getattr(one, each.name), getattr(other, each.name)) for each in fields(one)
        )
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    return bool(type(one) is type(other) and one == other)


def frame(kind: type, header: Any, payload: bytes = b"") -> bytes:
    """Return a frame of this kind, whose header is bytes, or is made of the value."""
    text = header if isinstance(header, bytes) else msgpack.encode(header)
    prelude = ipc.PRELUDE.pack(ipc.MAGIC, ipc.KINDS.index(kind), len(text), len(payload))
    return prelude + text + bytes(-len(text) % 64) + payload


def decode(raw: bytes) -> ipc.Message:
    return ipc.decode(raw[: ipc.PRELUDE.size], bytearray(raw[ipc.PRELUDE.size :]))


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_messages_come_back_as_they_were(message: ipc.Message, pair: tuple[socket.socket, socket.socket]) -> None:
    ipc.send(pair[0], message)
    received = ipc.receive(pair[1])
    assert same(message, received)


def names_of(literals: Any) -> list[str]:
    """Return the values of a Literal, or of a union of several."""
    return [name for part in get_args(literals) for name in (get_args(part) or (part,))]


NUMBERS = st.integers(-(2**31), 2**31 - 1)
REALS = st.floats(allow_nan=False)
HEADS = st.builds(
    HeadOptions,
    st.sampled_from(names_of(HeadName)),
    st.sampled_from(get_args(ScoreFunction)),
    NUMBERS,
    st.lists(NUMBERS).map(tuple),
    NUMBERS,
)
POOLINGS = st.builds(
    Pooling,
    st.sampled_from(["cls", "pooler"]),
    st.lists(NUMBERS, min_size=1).map(tuple),
    st.just("sum"),
    st.booleans(),
    NUMBERS,
)

OUTPUT_OPTIONS = st.builds(
    OutputOptions,
    st.lists(st.sampled_from(names_of(Output))).map(tuple),
    st.none() | POOLINGS,
    hidden_layers=st.lists(NUMBERS).map(tuple),
    head=st.none() | HEADS,
)
GENERATION = st.builds(
    GenerationOptions,
    NUMBERS,
    num_beams=NUMBERS,
    length_penalty=REALS,
    early_stopping=st.sampled_from(get_args(EarlyStopping)),
    do_sample=st.booleans(),
    temperature=REALS,
    seed=st.integers(0, 2**64 - 1),
    bad_words=st.lists(st.lists(NUMBERS).map(tuple)).map(tuple),
    eos_token_ids=st.lists(NUMBERS).map(tuple),
    stream=st.booleans(),
)


def columns(kind: Any, elements: st.SearchStrategy[Any] = NUMBERS) -> st.SearchStrategy[np.ndarray]:
    return st.lists(elements, max_size=5).map(lambda values: np.array(values, kind))


FLOATS = columns(np.float32, st.floats(width=32, allow_nan=False))
INTS = columns(np.int32)
SPAN_COLUMNS = st.builds(Spans, INTS, INTS, INTS, st.none() | INTS)
ANY_MESSAGE: st.SearchStrategy[ipc.Message] = st.one_of(
    st.builds(
        Work,
        NUMBERS,
        st.builds(Batch, INTS, INTS, st.none() | INTS, st.none() | SPAN_COLUMNS),
        OUTPUT_OPTIONS,
        caller=st.text(),
    ),
    st.builds(Generate, NUMBERS, INTS, GENERATION, st.none() | INTS, NUMBERS, REALS, st.booleans(), st.text()),
    st.builds(Generated, columns(np.int64), INTS, INTS, FLOATS),
    st.builds(
        Completed,
        NUMBERS,
        st.lists(st.sampled_from(get_args(FinishReason))).map(tuple),
        INTS,
        INTS,
        FLOATS,
        FLOATS,
        REALS,
        REALS,
    ),
)


@given(ANY_MESSAGE)
def test_whatever_a_message_holds_comes_back(message: ipc.Message) -> None:
    received = decode(b"".join(ipc.encode(message)))
    assert same(message, received)


def test_a_deadline_that_never_comes_survives(pair: tuple[socket.socket, socket.socket]) -> None:
    ipc.send(pair[0], Work(1, make_batch([1]), OutputOptions(("pooled",))))
    received = ipc.receive(pair[1])
    assert isinstance(received, Work)
    assert received.deadline == math.inf


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 5), (0, 5), (1, 1), (16, 4), ()])
def test_arrays_of_all_types_and_shapes(
    dtype: str, shape: tuple[int, ...], pair: tuple[socket.socket, socket.socket]
) -> None:
    values = np.arange(math.prod(shape)).reshape(shape).astype(dtype)
    ipc.send(pair[0], Result(1, {"pooled": values, "after": np.arange(3, dtype=np.float32)}, 0.25, 0.5))
    received = ipc.receive(pair[1])
    assert same(Result(1, {"pooled": values, "after": np.arange(3, dtype=np.float32)}, 0.25, 0.5), received)


def test_strided_and_read_only_arrays(pair: tuple[socket.socket, socket.socket]) -> None:
    values = np.arange(40, dtype=np.float32).reshape(5, 8)[:, ::2]
    values.flags.writeable = False
    ipc.send(pair[0], Result(1, {"pooled": values}, 0.0, 0.0))
    received = ipc.receive(pair[1])
    assert isinstance(received, Result)
    np.testing.assert_array_equal(received.tensors["pooled"], values)


def test_arrays_are_aligned_within_the_body() -> None:
    tensors: dict[str, np.ndarray] = {str(i): np.zeros(i, np.int8) for i in range(70)}
    tensors["last"] = np.ones(3, np.float32)
    buffers = ipc.encode(Result(1, tensors, 0.0, 0.0))
    body = bytearray(b"".join(buffers[1:]))
    received = ipc.decode(bytes(buffers[0]), body)
    assert isinstance(received, Result)
    base = np.frombuffer(body, np.uint8).__array_interface__["data"][0]
    offsets = [each.__array_interface__["data"][0] - base for each in received.tensors.values() if each.size]
    assert all(offset % 64 == 0 for offset in offsets)
    np.testing.assert_array_equal(received.tensors["last"], np.ones(3, np.float32))


@pytest.mark.parametrize("message", [*MESSAGES, Result(1, {"a": np.zeros(16, np.float32), "b": np.zeros(0)}, 0, 0)])
def test_no_buffer_is_empty(message: ipc.Message) -> None:
    """Python 3.12's asyncio transports would wait for ever to have written an empty last buffer."""
    buffers = ipc.encode(message)
    assert all(len(buffer) for buffer in buffers)
    assert ipc.frame_size(bytes(buffers[0])) == sum(len(buffer) for buffer in buffers[1:])


def test_a_frame_larger_than_the_sockets_buffers(pair: tuple[socket.socket, socket.socket]) -> None:
    values = np.arange(3_000_000, dtype=np.float32)
    many = {f"part{i}": values[i * 1000 : i * 1000 + 999] for i in range(600)}  # more buffers than sendmsg takes
    message = Result(9, {"all": values, **many}, 0.0, 0.0)
    sender = threading.Thread(target=ipc.send, args=(pair[0], message))
    sender.start()
    received = ipc.receive(pair[1])
    sender.join()
    assert same(message, received)


def test_a_frame_that_comes_byte_by_byte(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    raw = b"".join(ipc.encode(MESSAGES[0]))

    def dribble() -> None:
        for i in range(len(raw)):
            pair[0].sendall(raw[i : i + 1])

    sender = threading.Thread(target=dribble)
    sender.start()
    assert same(MESSAGES[0], ipc.receive(pair[1]))
    sender.join()


def test_the_end_between_frames_is_none(pair: tuple[socket.socket, socket.socket]) -> None:
    ipc.send(pair[0], Cancel((1,)))
    pair[0].close()
    assert ipc.receive(pair[1]) == Cancel((1,))
    assert ipc.receive(pair[1]) is None


def test_the_end_within_a_frame_is_an_error() -> None:
    raw = b"".join(ipc.encode(MESSAGES[0]))
    for size in (1, ipc.PRELUDE.size - 1, ipc.PRELUDE.size, ipc.PRELUDE.size + 1, len(raw) - 1):
        ours, theirs = socket.socketpair()
        with theirs:
            with ours:
                ours.sendall(raw[:size])
            with pytest.raises(ipc.ProtocolError, match="closed within a frame"):
                ipc.receive(theirs)


@pytest.mark.parametrize(
    "prelude",
    [
        b"GET / HTTP/1.1\r\n",
        ipc.PRELUDE.pack(b"BST1", 0, 64, 0),
        ipc.PRELUDE.pack(ipc.MAGIC, len(ipc.KINDS), 64, 0),
        ipc.PRELUDE.pack(ipc.MAGIC, 0, 64, ipc.MAX_FRAME_BYTES),
        ipc.PRELUDE.pack(ipc.MAGIC, 0, 64, 2**32 - 1),
        ipc.PRELUDE.pack(ipc.MAGIC, 0, 2**32 - 1, 0),
        ipc.PRELUDE.pack(ipc.MAGIC, 0, 0, 0),
    ],
)
def test_a_prelude_that_is_none_is_refused_before_anything_is_allocated(prelude: bytes) -> None:
    with pytest.raises(ipc.ProtocolError):
        ipc.frame_size(prelude)


def placed(dtype: Any = "<i4", shape: Any = (1,), start: Any = 0) -> Any:
    return {"lengths": (dtype, shape, start), "ids": ("<i4", (1,), 0)}


@pytest.mark.parametrize(
    ("kind", "header"),
    [
        (Cancel, b"\xff\xfe"),
        (Cancel, b"\x93"),
        (Cancel, b"\x91" * 100_000),
        (Cancel, None),
        (Cancel, [1, 2]),
        (Cancel, {"ids": 3}),
        (Cancel, {"ids": ["3"]}),
        (Cancel, {}),
        (Hello, {"worker": "w"}),
        (Failure, {"id": 1, "reason": "a whim", "message": ""}),
        (Work, {"id": 1, "batch": placed()}),
        (Work, {"id": 1, "batch": placed(), "output_options": "output_options"}),
        (Work, {"id": 1, "batch": placed(), "output_options": {"outputs": ["poems"]}}),
        (Work, {"id": 1, "batch": {"ids": [1, 2], "lengths": [1, 2]}, "output_options": {"outputs": ["pooled"]}}),
        (Generate, {"id": 1, "options": {"max_new_tokens": 3}}),
        (Generate, {"id": 1, "ids": ("<i4", (1,), 0), "options": 3}),
        (Generated, {"works": ("<i8", (1,), 0)}),
        (Result, {"id": 1, "tensors": {}, "queue_seconds": "long", "compute_seconds": 0.0}),
        *(
            (Work, {"id": 1, "batch": batch, "output_options": {"outputs": ["pooled"]}})
            for batch in (
                placed(shape=(5,)),  # larger than the payload
                placed(start=16),
                placed(start=-4),
                placed(start=2**63),
                placed(shape=(-1,)),
                placed(shape=(2**62, 2**62)),
                placed(shape=("1",)),
                placed(dtype="|O"),
                placed(dtype="no such type"),
                placed(dtype=","),
                placed(dtype="1)u"),
                placed(dtype=["<i4"]),
            )
        ),
    ],
)
def test_a_header_that_is_none_is_refused(kind: type, header: Any) -> None:
    with pytest.raises(ipc.ProtocolError):
        decode(frame(kind, header, bytes(16)))


def test_a_header_that_is_one_is_taken() -> None:
    received = decode(frame(Work, {"id": 1, "batch": placed(), "output_options": {"outputs": ["pooled"]}}, bytes(16)))
    assert same(received, Work(1, Batch(column(np.int32, 0), column(np.int32, 0)), OutputOptions(("pooled",))))


def test_numbers_of_numpy_are_numbers() -> None:
    sent = Result(1, {}, np.float64(0.5), float("inf"))
    assert same(decode(b"".join(ipc.encode(sent))), Result(1, {}, 0.5, math.inf))


def test_what_no_message_has_is_refused_where_it_is_sent() -> None:
    with pytest.raises(TypeError, match="a message cannot have a lock"):
        ipc.encode(Result(1, {"lock": threading.Lock()}, 0.0, 0.0))  # type: ignore[dict-item]


@given(st.integers(0, 99), st.integers(0, 10_000), st.binary(min_size=1, max_size=8), st.booleans())
def test_damaged_frames_give_a_message_or_a_protocol_error(
    number: int, position: int, damage: bytes, shorten: bool
) -> None:
    raw = b"".join(ipc.encode(MESSAGES[number % len(MESSAGES)]))
    position = ipc.PRELUDE.size + position % (len(raw) - ipc.PRELUDE.size)
    damaged = raw[:position] if shorten else raw[:position] + damage + raw[position + len(damage) :]
    with contextlib.suppress(ipc.ProtocolError):
        decode(damaged)
