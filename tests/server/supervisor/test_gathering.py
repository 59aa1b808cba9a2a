from __future__ import annotations

import asyncio
import os
import subprocess
import time
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from bertstream.server.messages import GatheredModel, ProcessKind
from bertstream.server.supervisor import gathering
from bertstream.server.supervisor.gathering import Gathering, Lives, ServerFacts
from bertstream.server.supervisor.members import Member
from bertstream.server.supervisor.processes import Used, used_by
from bertstream.workers.measuring import frontend_metrics, supervisor_metrics
from bertstream.workers.measuring.snapshots import Snapshot, TakeSnapshot, Value
from bertstream.workers.process.child import Child, ChildFailed
from bertstream.workers.process.control import NoAnswer
from tests.support.server import eventually
from tests.support.waiting import until

STARTED, UNDER_WAY = frontend_metrics.CALLS_STARTED.name, frontend_metrics.CALLS_UNDER_WAY.name


def counted(calls: float, under_way: float = 0) -> Snapshot:
    return Snapshot((Value(STARTED, ("m",), calls), Value(UNDER_WAY, (), under_way)))


class FakeChild:
    """A child that answers as the test says."""

    def __init__(self, name: str, answer: Snapshot | Exception | None, life: int = 0) -> None:
        self.spec = SimpleNamespace(name=name)
        self.pid, self.life, self.alive, self.started = os.getpid(), life, True, time.monotonic()
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ready.set_result(None)
        self.answer = answer
        self.asked = 0

    async def ask(self, question: object) -> Any:
        assert question == TakeSnapshot()
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is None:
            await asyncio.sleep(60)
        return msgspec.to_builtins(self.answer)

    def member(self, kind: ProcessKind = "frontend", model: str = "") -> Member:
        return Member(kind, cast(Child, self), model)


def model(alive: int = 1) -> GatheredModel:
    return GatheredModel("tiny", "r", "float32", "cpu", 2, 4, (), "serving" if alive else "unavailable", 1, alive, 1024)


def over(*members: Member, models: tuple[GatheredModel, ...] = ()) -> tuple[Gathering, list[Member]]:
    there, made = list(members), Gathering(ServerFacts("127.0.0.1:1", 2, "0.1.0"))
    made.attach(lambda: there, lambda: models or (model(),))
    return made, there


def test_what_a_life_has_counted_stays_and_its_gauges_go() -> None:
    lives, first, second = Lives(), ("frontend-0", 0), ("frontend-0", 1)
    lives.take([first], {first: counted(5, under_way=2)})
    assert lives.together(Snapshot()).value(UNDER_WAY) == 2
    lives.take([second], {})
    assert lives.together(Snapshot()).value(STARTED, "m") == 5
    assert lives.together(Snapshot()).value(UNDER_WAY) == 0
    lives.take([second], {second: counted(1, under_way=1)})
    lives.take([second], {second: counted(3, under_way=1)})
    assert lives.together(counted(0)).value(STARTED, "m") == 8
    assert lives.together(Snapshot()).value(UNDER_WAY) == 1


def test_a_process_that_ends_as_told_takes_nothing_along() -> None:
    lives, first = Lives(), ("frontend-0", 3)
    lives.take([first], {first: counted(5, under_way=2)})
    lives.end("frontend-0", counted(9))
    lives.end("frontend-1", counted(1))  # before it was ever asked
    lives.take([], {})
    assert lives.together(Snapshot()).value(STARTED, "m") == 10
    assert lives.together(Snapshot()).value(UNDER_WAY) == 0


def test_what_a_process_says_at_last_is_not_undone_by_what_it_said_before() -> None:
    lives, first = Lives(), ("frontend-0", 3)
    lives.ask([first])
    lives.end("frontend-0", counted(9))
    lives.take([first], {first: counted(5, under_way=2)})  # its answer, which waited for those of others
    lives.take([first], {first: counted(9)})  # it is not gone yet
    assert lives.together(Snapshot()).value(STARTED, "m") == 9
    lives.take([], {})
    assert lives.together(Snapshot()).value(STARTED, "m") == 9
    assert lives.together(Snapshot()).value(UNDER_WAY) == 0


async def test_all_processes_are_asked_and_added_up() -> None:
    one, other = FakeChild("frontend-0", counted(3, 1)), FakeChild("worker-0-0", counted(4, 1))
    made, _ = over(one.member(), other.member("worker", "tiny"))
    found = (await made.gather()).snapshot
    assert (found.value(STARTED, "m"), found.value(UNDER_WAY)) == (7, 2)
    assert found.value(supervisor_metrics.PROCESSES.name, "worker", "tiny") == 1
    assert found.value(supervisor_metrics.PROCESS_MEMORY.name, "worker-0-0") > 1 << 20
    assert found.value(supervisor_metrics.PROCESS_CPU.name, "frontend-0") > 0


@pytest.mark.parametrize("failure", [None, ChildFailed("it died"), NoAnswer("busy"), Snapshot(cast(Any, 7))])
async def test_one_that_gives_no_answer_keeps_its_last(monkeypatch: pytest.MonkeyPatch, failure: Any) -> None:
    monkeypatch.setattr(gathering, "ANSWER_SECONDS", 0.05)
    child, other = FakeChild("frontend-0", counted(3)), FakeChild("frontend-1", counted(4))
    made, _ = over(child.member(), other.member())
    await made.gather()
    child.answer, other.answer = failure, counted(6)
    assert (await made.gather()).snapshot.value(STARTED, "m") == 9


async def test_counters_never_go_back_when_processes_come_and_go() -> None:
    first, worker = FakeChild("frontend-0", counted(3)), FakeChild("worker-0-0", counted(10))
    made, there = over(first.member(), worker.member("worker"))
    await made.gather()
    first.alive = False
    assert (await made.gather()).snapshot.value(STARTED, "m") == 13
    assert first.asked == 1
    there[:] = [FakeChild("frontend-0", counted(1), life=1).member()]
    assert (await made.gather()).snapshot.value(STARTED, "m") == 14


class HeldChild(FakeChild):
    """A child that answers what it had counted when it was asked, once the test lets it."""

    def __init__(self, name: str, answer: Snapshot) -> None:
        super().__init__(name, answer)
        self.let = asyncio.Event()

    async def ask(self, question: object) -> Any:
        answer = await super().ask(question)
        await self.let.wait()
        return answer


async def test_whoever_asks_gets_what_was_counted_after_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "ANSWER_SECONDS", 60.0)
    child = HeldChild("frontend-0", counted(1))
    made, _ = over(child.member())
    early = asyncio.create_task(made.gather())
    await until(lambda: child.asked == 1)
    child.answer = counted(2)
    late = asyncio.create_task(made.gather())
    child.let.set()
    assert (await early).snapshot.value(STARTED, "m") == 1
    assert (await late).snapshot.value(STARTED, "m") == 2


async def test_those_who_ask_meanwhile_share_one_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "ANSWER_SECONDS", 0.2)
    silent = FakeChild("frontend-0", None)
    made, _ = over(silent.member())
    early = asyncio.create_task(made.gather())
    await until(lambda: silent.asked == 1)
    late = [asyncio.create_task(made.gather()) for _ in range(20)]
    late.pop().cancel()
    await asyncio.gather(early, *late)
    assert silent.asked == 2


async def test_it_gathers_by_itself_only_where_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "GATHER_SECONDS", 0.05)
    now = 1000.0  # which is moved here, as any wait may take longer than those who ask should let pass
    monkeypatch.setattr(gathering, "time", SimpleNamespace(monotonic=lambda: now, time=time.time))
    child = FakeChild("frontend-0", counted(1))
    made, _ = over(child.member())
    forever = asyncio.create_task(made.gather_forever())
    for _ in range(6):
        await asyncio.sleep(0.06)
        now += 0.04
        await made.gather()
    assert child.asked == 6
    now += 0.05
    await until(lambda: child.asked > 6)
    forever.cancel()


async def test_it_is_ready_when_it_has_begun_and_all_models_have_workers() -> None:
    child = FakeChild("frontend-0", counted(1))
    made, there = over(child.member())
    assert not (await made.gather()).ready
    made.ready = True
    assert (await made.gather()).ready
    made.draining = True
    gathered = await made.gather()
    assert (gathered.ready, gathered.draining, gathered.snapshot.value(supervisor_metrics.READY.name)) == (
        False,
        True,
        0,
    )
    made.draining = False
    there.clear()
    assert not (await made.gather()).ready
    lacking, _ = over(child.member(), models=(model(), model(alive=0)))
    lacking.ready = True
    assert not (await lacking.gather()).ready


async def test_restarts_are_counted_by_their_cause() -> None:
    made, _ = over()
    made.died("worker", "tiny", "signal SIGKILL")
    made.died("worker", "tiny", "signal SIGKILL")
    made.died("frontend", "", "hang")
    found = (await made.gather()).snapshot
    assert found.value(supervisor_metrics.RESTARTS.name, "worker", "tiny", "signal SIGKILL") == 2
    assert found.value(supervisor_metrics.RESTARTS.name, "frontend", "", "hang") == 1


async def test_states_of_processes() -> None:
    starting, gone = FakeChild("frontend-0", None), FakeChild("frontend-1", None, life=3)
    starting.ready, gone.alive = asyncio.get_running_loop().create_future(), False
    made, _ = over(starting.member(), gone.member())
    supervisor, one, other = (await made.gather()).processes
    assert (supervisor.name, supervisor.pid, supervisor.state) == ("supervisor", os.getpid(), "ready")
    assert (one.state, one.restarts, one.resident_bytes > 0) == ("starting", 0, True)
    assert (other.state, other.restarts, other.resident_bytes) == ("gone", 3, 0)


def test_what_a_process_uses() -> None:
    with subprocess.Popen(["sleep", "60"]) as sleeping:
        # At first it has hardly a page, and Linux may count that late.
        eventually(lambda: used_by(sleeping.pid).resident_bytes > 0, "its memory")
        found = used_by(sleeping.pid)
        sleeping.kill()
    assert 0 < found.resident_bytes < 64 << 20
    assert found.cpu_seconds < 5
    assert used_by(sleeping.pid) == Used()
    assert used_by(os.getpid()).cpu_seconds == pytest.approx(sum(os.times()[:2]), abs=1)
