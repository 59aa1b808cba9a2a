"""Whatever comes over the lines between the processes, it is a message or an error, and the process lives."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from bertstream.server.core.dispatch.link import WorkerLink, WorkerLost
from bertstream.workers import ipc
from bertstream.workers.contract import Result
from bertstream.workers.process import control
from tests.fuzz.running import examples
from tests.support.fake_worker import FakeWorker
from tests.support.works import make_work
from tests.workers.serving.test_connections import Worker, answers, hello
from tests.workers.test_ipc import ANY_MESSAGE, MESSAGES, frame

BODY_BYTES = 1 << 16

NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.integers(-2, 5)
DTYPE_LETTERS = st.text("<>=|bBhHiIuUlLefdgFDOSVaMmt?()[]{},:*+-'\"\\\x00 1248", max_size=8)
LEAVES = st.none() | st.booleans() | NUMBERS | st.floats() | st.text(max_size=9) | st.binary(max_size=9) | DTYPE_LETTERS
NAMES = st.sampled_from(sorted({name for kind in ipc.KINDS for name in vars(kind)["__match_args__"]})) | st.text(
    max_size=5
)
PLACES = st.tuples(
    st.sampled_from(["<i4", "<f4", "<i8", "|b1"]) | DTYPE_LETTERS,
    st.lists(NUMBERS, max_size=3),
    NUMBERS,
)
VALUES = st.recursive(
    LEAVES | PLACES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=8),
    max_leaves=20,
)


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """Return a frame of a good message with changed bytes, one of any values, or no frame at all."""
    kind = draw(st.sampled_from(ipc.KINDS))
    match draw(st.integers(0, 3)):
        case 0:
            return draw(st.binary(max_size=200))
        case 1:
            return frame(kind, draw(st.binary(min_size=1, max_size=100)), draw(st.binary(max_size=64)))
        case 2:
            return frame(kind, draw(VALUES), draw(st.binary(max_size=64)))
    raw = bytearray(b"".join(ipc.encode(draw(ANY_MESSAGE | st.sampled_from(MESSAGES)))))
    for _ in range(draw(st.integers(1, 4))):
        raw[draw(st.integers(0, len(raw) - 1))] = draw(st.integers(0, 255))
    return bytes(raw[: draw(st.integers(0, len(raw)))] if draw(st.booleans()) else raw)


@given(raw=frames())
@examples(1500)
def test_a_frame_is_a_message_or_a_protocol_error(raw: bytes) -> None:
    prelude, body = raw[: ipc.PRELUDE.size].ljust(ipc.PRELUDE.size, b"\x00"), raw[ipc.PRELUDE.size :]
    message = None
    tracemalloc.start()
    try:
        with contextlib.suppress(ipc.ProtocolError):
            size = ipc.frame_size(prelude)
            assert 0 < size <= ipc.MAX_FRAME_BYTES
            message = ipc.decode(prelude, bytearray(body.ljust(min(size, BODY_BYTES), b"\x00")))
        assert tracemalloc.get_traced_memory()[1] < 64 * BODY_BYTES
    finally:
        tracemalloc.stop()
    assert message is None or isinstance(message, ipc.KINDS)


JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
KINDS = (*get_args(control.ToChild), *get_args(control.FromChild))
TAGS = st.sampled_from([kind.__name__ for kind in KINDS])
FIELDS = st.sampled_from(sorted({field for kind in KINDS for field in kind.__struct_fields__}))


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    made = Worker(tmp_path)
    made.program.gate.set()
    yield made
    made.close()


def heard(sock: socket.socket) -> None:
    """Take what comes, until the other side hangs up; fail where it does not."""
    with contextlib.suppress(ConnectionResetError):
        while sock.recv(1 << 16):
            pass


@given(sent=st.lists(frames(), min_size=1, max_size=3))
@examples(60)
def test_a_worker_hangs_up_on_what_is_no_work(sent: list[bytes], worker: Worker) -> None:
    for raw in sent:
        with worker.connect() as sock:
            hello(sock)
            with contextlib.suppress(BrokenPipeError):
                sock.sendall(raw)
                sock.shutdown(socket.SHUT_WR)
            heard(sock)
    with worker.connect() as good:
        hello(good)
        ipc.send(good, make_work(1))
        assert isinstance(answers(good, 1)[1], Result)


@given(sent=st.lists(frames(), min_size=1, max_size=3))
@examples(25)
def test_a_frontend_hangs_up_on_what_is_no_answer(sent: list[bytes], tmp_path: Path) -> None:
    (tmp_path / "socket").unlink(missing_ok=True)
    asyncio.run(_linked_to_nonsense(tmp_path / "socket", sent))


async def _linked_to_nonsense(path: Path, sent: list[bytes]) -> None:
    """Connect a link to peers that send this and hang up, one after another, and then to a worker."""
    unhandled: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    frames, over = deque(sent), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frames.popleft() if frames else b"")
        writer.write_eof()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        if not frames:
            over.set()

    nonsense = await asyncio.start_unix_server(serve, path)
    link = WorkerLink(str(path), lambda: None)
    async with asyncio.timeout(60):
        await over.wait()
        nonsense.close()
        worker = FakeWorker(path)
        await worker.start()
        answer = None
        while answer is None:
            with contextlib.suppress(WorkerLost):
                answer = await link.call(make_work(1))
            await asyncio.sleep(0.01)
    assert isinstance(answer, Result)
    assert not unhandled
    await link.close()
    await worker.close()


LINES = st.one_of(
    st.binary(max_size=60),
    JSON.map(json.dumps).map(str.encode),
    st.builds(lambda tag, fields: json.dumps({**fields, "type": tag}).encode(), TAGS, st.dictionaries(FIELDS, JSON)),
    st.sampled_from([b"[" * 3_000, b'{"a":' * 3_000, b"9" * 3_000, b"1e999", b"NaN", b"\xff", b'"\\ud800"']),
)


@pytest.mark.parametrize("decode", [control.decode_to_child, control.decode_from_child])
@given(line=LINES)
@examples(500)
def test_a_line_of_the_control_line_is_a_message_or_a_value_error(
    decode: Callable[[bytes], Struct], line: bytes
) -> None:
    message = None
    with contextlib.suppress(ValueError):
        message = decode(line)
    assert message is None or isinstance(message, Struct)
