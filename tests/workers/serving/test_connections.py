"""Test the worker's inside over a real Unix socket: listener, connections, queue and loop, around a fake program."""

from __future__ import annotations

import contextlib
import math
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from bertstream.workers import ipc
from bertstream.workers.contract import Cancel, Completed, Failure, Generated, Hello, OutputOptions, Result
from bertstream.workers.engine.batch import prepare
from bertstream.workers.engine.engine import run
from bertstream.workers.engine.sessions import Sessions
from bertstream.workers.serving.connections import Listener, Queues
from bertstream.workers.serving.loop import EngineLoop
from bertstream.workers.serving.queue import WorkQueue
from bertstream.workers.serving.running_record import Computing, RunningRecord, read_running
from tests.support.generation import Bench, HistoryProgram, Ids, answers_of, make_generate
from tests.support.strangers import STRANGER, as_root, connecting
from tests.support.works import LAST_LAYER, FakeProgram, make_work

QUEUE_TOKENS = 50
RECORD = "/somewhere/running"
WORK = b"".join(ipc.encode(make_work(1)))


class Gated(FakeProgram):
    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.ids_seen: list[list[int]] = []  # of each batch

    def hidden_states(
        self, ids: Tensor, type_ids: Tensor | None, lengths: list[int], layers: list[int]
    ) -> list[Tensor]:
        self.ids_seen.append(ids.tolist())
        self.entered.release()
        assert self.gate.wait(60)
        time.sleep(self.seconds)
        return super().hidden_states(ids, type_ids, lengths, layers)


class Worker:
    def __init__(
        self, directory: Path, generating: Bench | None = None, *, queue_tokens: int = QUEUE_TOKENS, seconds: float = 0
    ) -> None:
        """Start the worker. seconds: what a batch takes."""
        self.path = str(directory / "socket")
        self.program = Gated(seconds)
        self.queue = WorkQueue(queue_tokens, 40, 30.0)
        computing, sessions = Computing(RunningRecord(directory / "running")), Sessions(1 << 20)
        generator = generating.generator if generating else None
        EngineLoop(self.program, self.queue, computing, sessions, LAST_LAYER, generator=generator).start()
        queues = Queues(self.queue, sessions, generator.queue if generator else None)
        Listener(self.path, queues, lambda number: Hello("worker-0", 1, number, 40, 40, RECORD)).start()
        self._open: list[socket.socket] = []

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(20)
        sock.connect(self.path)
        self._open.append(sock)
        return sock

    def close(self) -> None:
        self.program.gate.set()
        self.queue.close()
        for sock in self._open:
            sock.close()


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    made = Worker(tmp_path)
    yield made
    made.close()


def hello(sock: socket.socket) -> Hello:
    message = ipc.receive(sock)
    assert isinstance(message, Hello)
    return message


def answers(sock: socket.socket, count: int) -> dict[int, Result | Failure]:
    found: dict[int, Result | Failure] = {}
    for _ in range(count):
        message = ipc.receive(sock)
        assert isinstance(message, Result | Failure)
        found[message.id] = message
    return found


def until(true: Callable[[], Any]) -> None:
    """Wait until other threads have made it true."""
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def until_waiting(worker: Worker, tokens: int) -> None:
    """Wait until the reader, which is a thread, has put this many tokens into the queue."""
    until(lambda: worker.queue.waiting_tokens == tokens)


def test_the_worker_greets_and_numbers_its_connections(worker: Worker) -> None:
    assert [hello(worker.connect()).connection for _ in range(3)] == [1, 2, 3]
    assert stat.S_IMODE(Path(worker.path).stat().st_mode) == 0o600


def test_work_is_answered_on_the_connection_that_it_came_from(worker: Worker) -> None:
    worker.program.gate.set()
    one, other = worker.connect(), worker.connect()
    hello(one), hello(other)
    ipc.send(one, make_work(1, [3, 2], first_id=10))
    ipc.send(other, make_work(1, [4], first_id=70))
    for sock, lengths, first_id in ((one, [3, 2], 10), (other, [4], 70)):
        found = answers(sock, 1)[1]
        assert isinstance(found, Result)
        work = make_work(1, lengths, first_id=first_id)
        expected = run(FakeProgram(), prepare([work], LAST_LAYER))[0]["pooled"]
        np.testing.assert_allclose(found.tensors["pooled"].astype(np.float32), expected.numpy(), rtol=1e-6)


def test_the_record_tells_connections_apart(worker: Worker, tmp_path: Path) -> None:
    """Frontends each number their work from 1."""
    one, other = worker.connect(), worker.connect()
    hello(one), hello(other)
    ipc.send(other, make_work(1, [40]))
    assert worker.program.entered.acquire(timeout=20)
    ipc.send(one, make_work(1, [10]))
    ipc.send(other, make_work(2, [10]))
    until_waiting(worker, 20)
    assert read_running(tmp_path / "running") == {(2, 1)}
    worker.program.gate.set()
    assert set(answers(one, 1)) == {1}
    assert set(answers(other, 2)) == {1, 2}


def test_answers_larger_than_the_sockets_buffers(worker: Worker) -> None:
    worker.program.gate.set()
    sock = worker.connect()
    hello(sock)
    ipc.send(sock, make_work(1, [100] * 2000, output_options=OutputOptions(("last_hidden_state",))))
    found = answers(sock, 1)[1]
    assert isinstance(found, Result)
    assert found.tensors["last_hidden_state"].shape == (200_000, 6)


def test_an_answer_is_sent_without_waking_the_writer(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    senders: list[str] = []
    send_some = ipc.send_some

    def noted(sock: socket.socket, message: ipc.Message) -> list[memoryview]:
        senders.append(threading.current_thread().name)
        return send_some(sock, message)

    monkeypatch.setattr(ipc, "send_some", noted)
    worker.program.gate.set()
    sock = worker.connect()
    hello(sock)
    for number in range(1, 50):  # the writer may yet have the lock of the answer before
        ipc.send(sock, make_work(number, [3]))
        assert isinstance(answers(sock, 1)[number], Result)
        if senders:
            break
    assert senders == ["engine"]


def test_what_a_full_socket_does_not_take_follows_and_then_the_next_answers(worker: Worker) -> None:
    worker.program.gate.set()
    sock = worker.connect()
    hello(sock)
    large = OutputOptions(("last_hidden_state",))  # 5 MB, far more than the buffers, and nobody reads
    for number in range(3):
        ipc.send(sock, make_work(number, [200_000], output_options=large))
        assert worker.program.entered.acquire(timeout=20)
    ipc.send(sock, make_work(3, [3]))
    found = answers(sock, 4)
    expected = run(FakeProgram(), prepare([make_work(0, [200_000], output_options=large)], LAST_LAYER))[0]
    for number in range(3):
        answer = found[number]
        assert isinstance(answer, Result)
        states = answer.tensors["last_hidden_state"].astype(np.float32)
        np.testing.assert_allclose(states, expected["last_hidden_state"].numpy(), rtol=1e-6)
    assert isinstance(found[3], Result)


def test_a_full_queue_says_so_and_cancelling_makes_room(worker: Worker) -> None:
    sock = worker.connect()
    hello(sock)
    ipc.send(sock, make_work(1, [40]))
    assert worker.program.entered.acquire(timeout=20)  # it computes, and the queue is empty
    ipc.send(sock, make_work(2, [30]))
    ipc.send(sock, make_work(3, [30]))
    refused = answers(sock, 1)[3]
    assert refused == Failure(3, "queue_full", "30 tokens wait already")
    ipc.send(sock, Cancel((2,)))
    until_waiting(worker, 0)
    ipc.send(sock, make_work(4, [30]))
    until_waiting(worker, 30)
    worker.program.gate.set()
    assert set(answers(sock, 2)) == {1, 4}


def test_the_work_of_a_lost_connection_is_forgotten(worker: Worker) -> None:
    sock, other = worker.connect(), worker.connect()
    hello(sock), hello(other)
    ipc.send(other, make_work(1, [40]))
    assert worker.program.entered.acquire(timeout=20)
    ipc.send(sock, make_work(2, [20]))
    ipc.send(other, make_work(3, [10]))
    until_waiting(worker, 30)
    sock.close()
    until_waiting(worker, 10)
    worker.program.gate.set()
    assert set(answers(other, 2)) == {1, 3}
    assert worker.program.lengths_seen == [[40], [10]]


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: worker\r\n\r\n",
        ipc.PRELUDE.pack(ipc.MAGIC, 0, 64, 0) + b"{" * 64,
        b"".join(ipc.encode(Failure(1, "internal", "workers send these, and do not take them"))),
    ],
)
def test_garbage_ends_its_own_connection_only(worker: Worker, garbage: bytes) -> None:
    worker.program.gate.set()
    bad, good = worker.connect(), worker.connect()
    hello(bad), hello(good)
    bad.sendall(garbage)
    with contextlib.suppress(ConnectionResetError):  # what it had not read yet was lost
        assert bad.recv(1) == b""
    ipc.send(good, make_work(1))
    assert isinstance(answers(good, 1)[1], Result)


def test_a_connection_whose_answers_cannot_be_made_is_closed(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not left half open, where the other side would wait for ever."""
    ended = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda _: ended.set())
    worker.program.gate.set()
    sock = worker.connect()
    hello(sock)
    monkeypatch.setattr(ipc, "encode", lambda _: 1 / 0)
    sock.sendall(WORK)
    assert sock.recv(1) == b""
    assert ended.wait(20)


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Worker]:
    """Run a worker that computes two texts of 20 tokens in 20 ms."""
    made = Worker(tmp_path, queue_tokens=1_000_000, seconds=0.02)
    made.program.gate.set()
    yield made
    made.close()


def test_under_overload_the_rest_is_refused_while_what_was_let_in_still_waits(slow: Worker) -> None:
    """Tell by the order of the answers alone, whatever else the machine does; when they come is simulated elsewhere."""
    sock = slow.connect()
    hello(sock)
    ipc.send(sock, make_work(0, [20]))
    assert isinstance(answers(sock, 1)[0], Result)
    slow.program.gate.clear()  # or a test that is slow to send would be kept up with
    received: list[Result | Failure] = []

    def read() -> None:
        for _ in range(600):
            message = ipc.receive(sock)
            assert isinstance(message, Result | Failure)
            received.append(message)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1, 601):  # six seconds of work, all of which is wanted within half a second
        ipc.send(sock, make_work(number, [20], deadline=time.monotonic() + 0.5))
    until(lambda: len(received) > 300)
    slow.program.gate.set()
    reader.join(60)
    assert {message.id for message in received} == set(range(1, 601))
    computed = [message.id for message in received if isinstance(message, Result)]
    failures = [message for message in received if isinstance(message, Failure)]
    assert computed
    assert len(failures) > 300
    assert {failure.reason for failure in failures} <= {"overloaded", "expired"}
    assert sum(failure.retry_seconds > 0 for failure in failures) > len(failures) / 2
    places = {message.id: place for place, message in enumerate(received)}
    last = max(places[number] for number in computed)
    assert sum(places[failure.id] < last for failure in failures) > len(failures) / 2  # they did not wait for their end


def test_one_caller_s_flood_does_not_keep_another_waiting(slow: Worker) -> None:
    sock, other = slow.connect(), slow.connect()
    hello(sock), hello(other)
    ipc.send(sock, make_work(0, [20], caller="greedy"))
    answers(sock, 1)
    slow.program.gate.clear()
    ipc.send(sock, make_work(1, [20], caller="greedy"))
    until(lambda: len(slow.program.ids_seen) == 2)
    for number in range(2, 201):
        ipc.send(sock, make_work(number, [20], caller="greedy"))
    until_waiting(slow, 197 * 20)  # without the two of the batch that is prepared
    ipc.send(other, make_work(1, [20], caller="modest", first_id=500))
    until_waiting(slow, 198 * 20)
    slow.program.gate.set()
    assert isinstance(answers(other, 1)[1], Result)
    _first, _at_hand, _prepared, its_own, *_others = slow.program.ids_seen
    assert 500 in its_own


def test_of_a_session_the_first_step_alone_is_refused(slow: Worker) -> None:
    sock = slow.connect()
    hello(sock)
    ipc.send(sock, make_work(1, [20], session=8))
    assert set(answers(sock, 1)) == {1}  # the program fails, as it has no layers, but its caller may go on
    for number in (10, 11, 12):
        ipc.send(sock, make_work(number, [40]))
        assert isinstance(answers(sock, 1)[number], Result)
        assert slow.program.entered.acquire(timeout=20)
    slow.program.gate.clear()
    ipc.send(sock, make_work(13, [40]))
    assert slow.program.entered.acquire(timeout=20)
    ipc.send(sock, make_work(14, [10]))  # where nothing waits behind a batch that should be done, anything is taken
    until_waiting(slow, 10)
    soon = time.monotonic() + 0.001  # less than a batch takes
    ipc.send(sock, make_work(2, [20], session=7, deadline=soon))
    ipc.send(sock, make_work(3, [20], session=8, deadline=soon))
    first = answers(sock, 1)[2]
    assert isinstance(first, Failure)
    assert first.reason == "overloaded"
    until_waiting(slow, 30)
    slow.program.gate.set()
    later = answers(sock, 3)[3]
    assert isinstance(later, Failure)
    assert later.reason == "expired"


class Held(HistoryProgram):
    """Wait where a text has as many tokens as the limit."""

    def __init__(self) -> None:
        super().__init__()
        self.limit = math.inf
        self.at = 0  # the tokens of the text that it last waited at

    def logits(self, source: Ids | None, tokens: Ids) -> Tensor:
        if len(tokens) >= self.limit:
            self.at = len(tokens)
            until(lambda: len(tokens) < self.limit)
        return super().logits(source, tokens)


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def bench(tmp_path: Path, held: Held) -> Bench:
    return Bench(tmp_path, held)


@pytest.fixture
def generating(tmp_path: Path, bench: Bench, held: Held) -> Iterator[Worker]:
    made = Worker(tmp_path, bench)
    yield made
    held.limit = math.inf
    made.close()


def test_generated_tokens_come_before_the_whole_answer(generating: Worker, tmp_path: Path) -> None:
    sock = generating.connect()
    hello(sock)
    work = make_generate(7, stream=True)
    ipc.send(sock, work)
    *pieces, completed = [ipc.receive(sock) for _ in range(6)]
    assert isinstance(completed, Completed)
    assert answers_of(completed) == answers_of(Bench(tmp_path).run(work)[0])
    tokens = [int(piece.tokens[0]) for piece in pieces if isinstance(piece, Generated)]
    assert [tokens] == answers_of(completed)


def test_cancelling_and_going_away_end_what_is_generated(generating: Worker, bench: Bench, held: Held) -> None:
    sock, other = generating.connect(), generating.connect()
    hello(sock), hello(other)
    held.limit = 3  # or all 400 tokens may be there before they are cancelled
    ipc.send(sock, make_generate(1, stream=True, max_new_tokens=400))
    until(lambda: held.at == 3)
    ipc.send(other, make_generate(1, stream=True, max_new_tokens=400))
    until(lambda: len(bench.queue))
    held.limit = 20
    until(lambda: held.at == 20)
    assert isinstance(ipc.receive(other), Generated)
    other.close()
    assert isinstance(ipc.receive(sock), Generated)
    ipc.send(sock, Cancel((1,)))
    ipc.send(sock, make_generate(2, max_new_tokens=1))
    until(lambda: len(bench.queue))  # behind what was cancelled
    held.limit = math.inf
    while not isinstance(message := ipc.receive(sock), Completed):
        assert isinstance(message, Generated)
        assert message.works.tolist() == [1]
    assert message.id == 2
    until(lambda: not bench.generator.rows.used)


def test_what_cannot_be_generated_is_refused(generating: Worker, tmp_path: Path) -> None:
    (tmp_path / "encodes").mkdir()
    plain = Worker(tmp_path / "encodes")
    for worker, message in (
        (generating, "the cache has 2000 rows, and this may need 3003"),
        (plain, "this model does not generate text"),
    ):
        sock = worker.connect()
        hello(sock)
        ipc.send(sock, make_generate(1, max_new_tokens=3000))
        assert ipc.receive(sock) == Failure(1, "internal", message)
    plain.close()


@as_root
def test_another_user_s_process_is_not_let_in(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    """Even if it could open the socket, it is refused; those after it are not."""
    with connecting(worker.path) as stranger:
        assert hello(worker.connect()).connection == 1
    (refused,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert refused == f"a connection is refused: process {stranger} is the user {STRANGER}'s, not 0's"
