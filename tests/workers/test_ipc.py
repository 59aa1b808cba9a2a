from __future__ import annotations

import contextlib
import json
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
    HeadWish,
    Hello,
    Output,
    Pooling,
    Result,
    ScoreFunction,
    Spans,
    Wishes,
    Work,
)
from tests.support.works import make_batch

POOLING = Pooling("mean", (0, 3), "concatenate", True, 7)
HEAD = HeadWish("fill_mask", "none", 5, (3, 1), 7)
OPTIONS = GenerationOptions(9, 2, 3, 2, 0.5, "never", True, 0.7, 4, 0.9, 2**63, 1.2, 3, ((5,), (6, 7)), (102, 3), True)


def column(kind: Any, *values: float) -> np.ndarray:
    return np.array(values, kind)


SPANS = Spans(column(np.int32, 2, 0), column(np.int32, 0, 2), column(np.int32, 1, 1))
MESSAGES: list[ipc.Message] = [
    Work(1, make_batch([3, 1]), Wishes(("pooled", "last_hidden_state"), POOLING, "int8"), BULK, 12.5, True),
    Work(2**62, make_batch([2], type_ids=True), Wishes(("pooler_output",))),
    Work(3, replace(make_batch([3, 1]), spans=SPANS), Wishes(("mask_candidates",), head=HEAD)),
    Work(4, replace(make_batch([3, 1]), spans=replace(SPANS, ids=column(np.int32, 7, 9))), Wishes((), head=HEAD)),
    Generate(6, column(np.int32, 101, 5), OPTIONS, column(np.int32, 0, 1), BULK, 12.5, True),
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
    ),
    Cancel((3, 4)),
    Cancel(()),
    Hello("worker-0", 17, 2, 4096, "/tmp/ü.running"),
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
    """Equality that looks into arrays."""
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and bool((one == other).all())
    if is_dataclass(one):
        return type(one) is type(other) and all(
            same(getattr(one, each.name), getattr(other, each.name)) for each in fields(one)
        )
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    return bool(type(one) is type(other) and one == other)


def frame(header: bytes, payload: bytes = b"") -> bytes:
    return ipc.PRELUDE.pack(ipc.MAGIC, len(header), len(payload)) + header + payload


def decode(raw: bytes) -> ipc.Message:
    return ipc.decode(raw[: ipc.PRELUDE.size], bytearray(raw[ipc.PRELUDE.size :]))


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_messages_come_back_as_they_were(message: ipc.Message, pair: tuple[socket.socket, socket.socket]) -> None:
    ipc.send(pair[0], message)
    received = ipc.receive(pair[1])
    assert same(message, received)


def names_of(literals: Any) -> list[str]:
    """Of a Literal, or of a union of several."""
    return [name for part in get_args(literals) for name in (get_args(part) or (part,))]


NUMBERS = st.integers(-(2**31), 2**31 - 1)
REALS = st.floats(allow_nan=False)
HEADS = st.builds(
    HeadWish,
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

WISHES = st.builds(
    Wishes,
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
    st.builds(Work, NUMBERS, st.builds(Batch, INTS, INTS, st.none() | INTS, st.none() | SPAN_COLUMNS), WISHES),
    st.builds(Generate, NUMBERS, INTS, GENERATION, st.none() | INTS, NUMBERS, REALS, st.booleans()),
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
    ipc.send(pair[0], Work(1, make_batch([1]), Wishes(("pooled",))))
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
    """asyncio's transports would wait for ever to have written the last one (Python 3.12)."""
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
        ipc.PRELUDE.pack(b"BST2", 64, 0),
        ipc.PRELUDE.pack(ipc.MAGIC, 64, ipc.MAX_FRAME_BYTES),
        ipc.PRELUDE.pack(ipc.MAGIC, 64, 2**64 - 1),
        ipc.PRELUDE.pack(ipc.MAGIC, 0, 0),
    ],
)
def test_a_prelude_that_is_none_is_refused_before_anything_is_allocated(prelude: bytes) -> None:
    with pytest.raises(ipc.ProtocolError):
        ipc.frame_size(prelude)


@pytest.mark.parametrize(
    "header",
    [
        b"\xff\xfe",
        b"{",
        b"null",
        b"[1, 2]",
        b"[" * 100_000,
        json.dumps(["unknown", [], []]).encode(),
        json.dumps(["cancel", 3, []]).encode(),
        json.dumps([["cancel"], [], []]).encode(),
        json.dumps(["hello", {"worker": "w"}, []]).encode(),
        json.dumps(["failure", {"id": 1, "surprise": 2}, []]).encode(),
        json.dumps(["work", [], []]).encode(),
        json.dumps(["work", [1, ["pooled"], None, "float32", 0, 1.0, False], []]).encode(),
        json.dumps(["work", [1, "wishes", 0], [[name, "<i4", [1]] for name in ("ids", "lengths")]]).encode(),
        json.dumps(["generate", [1, {"max_new_tokens": 3}, 0, 1.0], []]).encode(),
        json.dumps(["generate", [1, 3, 0, 1.0], [["ids", "<i4", [1]]]]).encode(),
        json.dumps(["generated", [], [["works", "<i8", [1]]]]).encode(),
        json.dumps(["completed", [1, ["length"], 0.0, 0.0], [["surprise", "<i8", [1]]]]).encode(),
        json.dumps(["result", [1, 0.0, 0.0], [["a", "<f4", [5]]]]).encode(),  # larger than the payload
        json.dumps(["result", [1, 0.0, 0.0], [["a", "<f4", [-1]]]]).encode(),
        json.dumps(["result", [1, 0.0, 0.0], [["a", "<f4", [2**62, 2**62]]]]).encode(),
        json.dumps(["result", [1, 0.0, 0.0], [["a", "|O", [1]]]]).encode(),
        json.dumps(["result", [1, 0.0, 0.0], [["a", "no such type", [1]]]]).encode(),
        json.dumps(["result", [1, 0.0, 0.0], [["a", "<f4"]]]).encode(),
    ],
)
def test_a_header_that_is_none_is_refused(header: bytes) -> None:
    with pytest.raises(ipc.ProtocolError):
        decode(frame(header, bytes(16)))


@given(st.integers(0, 99), st.integers(0, 10_000), st.binary(min_size=1, max_size=8), st.booleans())
def test_damaged_frames_give_a_message_or_a_protocol_error(
    number: int, position: int, damage: bytes, shorten: bool
) -> None:
    raw = b"".join(ipc.encode(MESSAGES[number % len(MESSAGES)]))
    position = ipc.PRELUDE.size + position % (len(raw) - ipc.PRELUDE.size)
    damaged = raw[:position] if shorten else raw[:position] + damage + raw[position + len(damage) :]
    with contextlib.suppress(ipc.ProtocolError):
        decode(damaged)
