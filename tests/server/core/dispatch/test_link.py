from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from bertstream.server.core.dispatch import link as link_module
from bertstream.server.core.dispatch.link import WorkerLink, WorkerLost
from bertstream.workers import ipc
from bertstream.workers.contract import Failure, Hello, Result, Work
from tests.support.fake_worker import FakeWorker
from tests.support.strangers import STRANGER, as_root, listening
from tests.support.waiting import until
from tests.support.works import make_work

MakeWorkers = Callable[[int], Awaitable[list[FakeWorker]]]


class Linked:
    """A link, and the number of its changes."""

    def __init__(self, path: Path) -> None:
        self.changes = 0
        self.link = WorkerLink(str(path), self._changed)

    def _changed(self) -> None:
        self.changes += 1

    async def alive(self) -> WorkerLink:
        await until(lambda: self.link.alive)
        return self.link


@pytest.fixture
async def connect(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[[Path], Linked]]:
    monkeypatch.setattr(link_module, "RECONNECT_SECONDS", 0.005)
    made: list[Linked] = []

    def make(path: Path) -> Linked:
        made.append(Linked(path))
        return made[-1]

    yield make
    for each in made:
        await each.link.close()
    await asyncio.sleep(0.01)


Connect = Callable[[Path], Linked]


async def test_it_waits_for_a_worker_that_is_not_there_yet(connect: Connect, tmp_path: Path) -> None:
    linked = connect(tmp_path / "socket")
    await asyncio.sleep(0.02)
    assert not linked.link.alive
    with pytest.raises(WorkerLost):
        await linked.link.call(make_work(1))
    worker = FakeWorker(tmp_path / "socket")
    await worker.start()
    await linked.alive()
    assert linked.changes == 1
    await worker.close()


async def test_work_is_answered_under_ids_of_the_links_own(connect: Connect, make_workers: MakeWorkers) -> None:
    [worker] = await make_workers(1)
    link = await connect(worker.path).alive()
    one, other = await asyncio.gather(
        link.call(make_work(77, [2, 1], first_id=5)), link.call(make_work(77, [3], first_id=50))
    )
    assert isinstance(one, Result)
    assert isinstance(other, Result)
    assert one.tensors["pooled"].ravel().tolist() == [5, 7]
    assert other.tensors["pooled"].ravel().tolist() == [50]
    assert sorted(work.id for work in worker.works) == [1, 2]
    assert link.tokens == 0


async def test_answers_in_any_order_and_in_any_size(connect: Connect, make_workers: MakeWorkers) -> None:
    [worker] = await make_workers(1)
    worker.answer = lambda _: None
    link = await connect(worker.path).alive()
    calls = [asyncio.create_task(link.call(make_work(0, [3]))) for _ in range(3)]
    await worker.wait_for(3)
    assert link.tokens == 9
    big = np.arange(1_000_000, dtype=np.float32).reshape(-1, 4)
    await worker.send(Failure(3, "internal", "no"))
    await worker.send(Result(99, {}, 0, 0))  # nobody waits for this one
    await worker.send(Result(1, {"pooled": big}, 0, 0))
    await worker.send(Result(2, {"pooled": np.zeros((0, 4), np.float32)}, 0, 0))
    answers = await asyncio.gather(*calls)
    assert isinstance(answers[0], Result)
    assert isinstance(answers[1], Result)
    np.testing.assert_array_equal(answers[0].tensors["pooled"], big)
    assert answers[1].tensors["pooled"].shape == (0, 4)
    assert answers[2] == Failure(3, "internal", "no")


@pytest.mark.parametrize("piece", [7, 5000, 1 << 20])
async def test_answers_however_their_bytes_are_cut(connect: Connect, make_workers: MakeWorkers, piece: int) -> None:
    [worker] = await make_workers(1)
    worker.answer = lambda _: None
    link = await connect(worker.path).alive()
    calls = [asyncio.create_task(link.call(make_work(0, [3]))) for _ in range(4)]
    await worker.wait_for(4)
    sizes = (1, 3000, 1, 2)  # rows; the second answer is longer than what is read at first
    vectors = [np.arange(rows * 4, dtype=np.float32).reshape(-1, 4) for rows in sizes]
    answers = [Result(number, {"pooled": each}, 0, 0) for number, each in enumerate(vectors, 1)]
    raw = b"".join(b"".join(ipc.encode(answer)) for answer in answers)
    for start in range(0, len(raw), piece):
        worker.writers[-1].write(raw[start : start + piece])
        if piece < 1 << 20:
            await asyncio.sleep(0)  # so that the link reads them apart
    for call, expected in zip(calls, vectors, strict=True):
        answer = await call
        assert isinstance(answer, Result)
        np.testing.assert_array_equal(answer.tensors["pooled"], expected)


async def test_cancelling_tells_the_worker(connect: Connect, make_workers: MakeWorkers) -> None:
    [worker] = await make_workers(1)
    worker.answer = lambda _: None
    linked = connect(worker.path)
    link = await linked.alive()
    call = asyncio.create_task(link.call(make_work(0)))
    await worker.wait_for(1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await until(lambda: worker.cancelled == [1])
    assert link.tokens == 0


async def test_a_lost_worker_fails_what_was_under_way_and_says_what_it_was_computing(
    connect: Connect, make_workers: MakeWorkers
) -> None:
    [worker] = await make_workers(1)
    worker.answer = lambda _: None
    linked = connect(worker.path)
    link = await linked.alive()
    calls = [asyncio.create_task(link.call(make_work(0))) for _ in range(3)]
    await worker.wait_for(3)
    await worker.kill(running=[2])
    lost = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(each, WorkerLost) for each in lost)
    assert [each.running for each in lost if isinstance(each, WorkerLost)] == [False, True, False]
    assert not link.alive
    assert link.tokens == 0
    assert linked.changes == 2


async def test_it_finds_the_next_life_of_the_worker(connect: Connect, make_workers: MakeWorkers) -> None:
    [worker] = await make_workers(1)
    linked = connect(worker.path)
    link = await linked.alive()
    for life in range(1, 4):
        await worker.kill()
        await until(lambda: not link.alive)
        await worker.start()
        await linked.alive()
        assert linked.changes == 1 + 2 * life
        assert isinstance(await link.call(make_work(0)), Result)


@pytest.mark.parametrize(
    "garbage",
    [b"HTTP/1.1 400 Bad", ipc.PRELUDE.pack(ipc.MAGIC, 0, 0, 0), ipc.PRELUDE.pack(ipc.MAGIC, 0, 64, 0) + b"{" * 64],
)
async def test_garbage_from_a_worker_ends_the_connection(
    connect: Connect, make_workers: MakeWorkers, garbage: bytes
) -> None:
    [worker] = await make_workers(1)

    def answer(work: Work) -> None:
        worker.writers[-1].write(garbage)

    worker.answer = answer
    linked = connect(worker.path)
    link = await linked.alive()
    with pytest.raises(WorkerLost):
        await link.call(make_work(0))
    await linked.alive()  # again
    assert isinstance(link.hello, Hello)


async def test_after_closing_nothing_is_alive(connect: Connect, make_workers: MakeWorkers) -> None:
    [worker] = await make_workers(1)
    worker.answer = lambda _: None
    linked = connect(worker.path)
    link = await linked.alive()
    call = asyncio.create_task(link.call(make_work(0)))
    await worker.wait_for(1)
    await link.close()
    with pytest.raises(WorkerLost):
        await call
    assert not link.alive
    await asyncio.sleep(0.02)
    assert not link.alive


async def test_only_the_frontend_whose_work_was_computed_suspects_it(connect: Connect, tmp_path: Path) -> None:
    """Connect two frontends to one worker, with pieces of work that have the same number."""
    worker = FakeWorker(tmp_path / "socket", answer=lambda _: None)
    await worker.start()
    links = [await connect(tmp_path / "socket").alive() for _ in range(2)]
    calls = [asyncio.create_task(link.call(make_work(9))) for link in links]
    await worker.wait_for(2)
    assert [work.id for work in worker.works] == [1, 1]
    await worker.kill(running=[1], connection=2)
    lost = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(each, WorkerLost) and each.running for each in lost] == [False, True]


@as_root
async def test_a_worker_of_another_user_is_not_talked_to(
    connect: Connect, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Put a stranger's socket in the worker's place, which greets as a worker does."""
    greeting = b"".join(ipc.encode(Hello("worker-0", 1, 1, 4096, 4096, "/somewhere/running")))
    with listening(str(tmp_path / "socket"), greeting) as stranger:
        linked = connect(tmp_path / "socket")
        await until(lambda: bool(caplog.records))
        await asyncio.sleep(0.05)
        assert not linked.link.alive
        with pytest.raises(WorkerLost):
            await linked.link.call(make_work(1))
    problem = f"a worker's socket belongs to another user: process {stranger} is the user {STRANGER}'s, not 0's"
    assert {record.getMessage() for record in caplog.records if record.levelname == "ERROR"} == {problem}
    assert linked.changes == 0
