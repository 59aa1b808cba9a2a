"""Test groups that are added to a supervisor, and removed, while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from bertstream.workers.process import child as child_module
from bertstream.workers.process.child import ChildFailed
from bertstream.workers.process.group import Group
from bertstream.workers.process.supervisor import Supervisor
from tests.support.child import spec
from tests.support.waiting import until


class Running:
    """Run a supervisor in this process, with one group that stays."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._events = directory / "events"
        self._events.touch()
        self.ready, self.stopping = asyncio.Event(), asyncio.Event()
        self.supervisor = Supervisor([[self.group("first")], [self.group("front")]], 10.0, self.ready.set, self._stop)
        self.task = asyncio.create_task(self.supervisor.run())

    async def _stop(self) -> None:
        self.stopping.set()

    def group(self, *names: str, behaviour: str = "") -> Group:
        return Group([spec(self._directory, name, behaviour) for name in names])

    @property
    def events(self) -> list[str]:
        return self._events.read_text().splitlines()

    def lives(self, name: str) -> list[int]:
        """Return the process id of each life."""
        return [int(each.split()[3]) for each in self.events if each.startswith(f"{name} started")]


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    made = Running(tmp_path)
    await asyncio.wait_for(made.ready.wait(), 20)
    yield made
    made.supervisor.stop()
    await asyncio.wait_for(made.task, 20)
    assert made.stopping.is_set()
    pids = [int(each.split()[3]) for each in made.events if " started " in each]
    await until(lambda: not any(psutil.pid_exists(pid) for pid in pids))


async def test_a_group_that_is_added_is_kept_alive_and_ended_with_the_rest(running: Running) -> None:
    group = running.group("a", "b")
    await running.supervisor.add(0, group)
    assert {child.spec.name for child in group.children if child.ready.done()} == {"a", "b"}
    os.kill(running.lives("a")[0], signal.SIGKILL)
    await until(lambda: len(running.lives("a")) == 2)
    await group.living("a")
    running.supervisor.stop()
    await running.task
    order = [running.events.index(event) for event in ("front ended", "a stop", "a ended")]
    assert order == sorted(order)


async def test_a_group_that_is_removed_drains_and_is_not_started_again(running: Running) -> None:
    group = running.group("a", "b")
    await running.supervisor.add(0, group)
    await running.supervisor.remove(group)
    assert {"a stop", "a ended", "b stop", "b ended"} <= set(running.events)
    await asyncio.sleep(0.2)
    assert len(running.lives("a")) == len(running.lives("b")) == 1
    assert "first stop" not in running.events


async def test_a_group_that_cannot_start_leaves_nothing(running: Running) -> None:
    bad = Group([*running.group("good").specs, *running.group("bad", behaviour="fails").specs])
    with pytest.raises(ChildFailed, match="bad: the model is broken"):
        await running.supervisor.add(0, bad)
    assert not any(child.alive for child in bad.children)
    await running.supervisor.add(0, running.group("later"))


async def test_a_server_that_stops_ends_a_group_that_is_still_starting(running: Running) -> None:
    adding = asyncio.create_task(running.supervisor.add(0, running.group("slow", behaviour="never")))
    await until(lambda: running.lives("slow"))
    adding.cancel()
    running.supervisor.stop()
    await asyncio.wait_for(running.task, 20)


async def test_the_next_life_of_a_child_is_waited_for(running: Running) -> None:
    group = running.group("a")
    await running.supervisor.add(0, group)
    first = await group.living("a")
    first.kill()
    await until(lambda: not first.alive)
    second = await asyncio.wait_for(group.living("a"), 20)
    assert second.pid != first.pid
    assert await second.ask({"double": 3}) == 6


@pytest.mark.parametrize(
    ("behaviour", "cause"),
    [
        ("short0", "exit status 9"),
        ("dies", "signal SIGKILL"),
        ("fails", "failure"),
        ("computing0", "hang"),
    ],
)
async def test_each_death_is_told_with_its_cause_but_no_end(tmp_path: Path, behaviour: str, cause: str) -> None:
    (tmp_path / "events").touch()
    deaths: list[str] = []
    group = Group([spec(tmp_path, "a", behaviour, on_death=deaths.append)])
    with contextlib.suppress(ChildFailed):
        await asyncio.wait_for(group.start(), 20)
    if cause == "hang":
        (child,) = group.children
        child.ping()
        await until(child.hangs)
        child.kill(child.hangs())
    await until(lambda: deaths)
    assert deaths[0] == cause
    seen = len(deaths)
    await group.end(20.0, asyncio.Event())
    assert len(deaths) == seen


def has_ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # which another thread may have waited for meanwhile
        return True


async def test_a_child_that_no_thread_or_file_is_left_for_is_tried_again(
    running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What fails may fail after the process was started, which must not stay behind."""
    original, tries, strays = child_module.spawn, 0, list[int]()

    async def scarce(*given: Any) -> asyncio.subprocess.Process:
        nonlocal tries
        tries += 1
        if tries == 2:
            strays.append((await original(*given)).pid)
        if tries <= 2:
            raise RuntimeError("can't start new thread")
        return await original(*given)

    group = running.group("a")
    await running.supervisor.add(0, group)
    monkeypatch.setattr(child_module, "spawn", scarce)
    os.kill(running.lives("a")[0], signal.SIGKILL)
    await until(lambda: tries == 3)
    await asyncio.wait_for(group.living("a"), 20)
    assert [record.__dict__["status"] for record in caplog.records if "died and is replaced" in record.message][1:] == [
        "a cannot be started: can't start new thread"
    ] * 2
    await until(lambda: has_ended(strays[0]))
    tries = 0
    with pytest.raises(ChildFailed, match="late cannot be started: can't start new thread"):
        await running.supervisor.add(0, running.group("late"))


async def test_whatever_goes_wrong_with_a_child_is_told_and_leaves_none(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(cause: str) -> None:
        raise KeyError(cause)

    group = Group([replace(running.group("a").specs[0], on_death=broken)])
    await running.supervisor.add(0, group)
    os.kill(running.lives("a")[0], signal.SIGKILL)
    await until(lambda: len(running.lives("a")) == 2)
    await asyncio.wait_for(group.living("a"), 20)
    assert "a cannot be kept" in [record.message for record in caplog.records]
