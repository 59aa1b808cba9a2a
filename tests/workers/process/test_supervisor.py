"""Test the supervisor as a process of its own, over children that do as they are told."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from bertstream.workers.process.group import MAX_DELAY_SECONDS, restart_delay
from tests.support.imports import ROOT


class Supervised:
    """Hold a running supervisor, and what its children wrote."""

    def __init__(self, directory: Path, stages: list[dict[str, list[str]]], **given: Any) -> None:
        self._events = directory / "events"
        self._events.touch()
        text = json.dumps({"directory": str(directory), "stages": stages, **given})
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.supervised", text],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
        )

    @property
    def events(self) -> list[str]:
        return self._events.read_text().splitlines()

    def wait_for(self, event: str, times: int = 1) -> None:
        until = time.monotonic() + 30
        while sum(each.startswith(event) for each in self.events) < times:
            assert time.monotonic() < until, self.events
            time.sleep(0.01)

    def pids(self, name: str) -> list[int]:
        return [int(each.split()[3]) for each in self.events if each.startswith(f"{name} started")]

    def order(self, *events: str) -> list[int]:
        return [next(i for i, each in enumerate(self.events) if each.startswith(event)) for event in events]

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)

    @functools.cached_property
    def said(self) -> str:
        """Return all that it wrote on standard error, once it has ended."""
        return self.process.communicate()[1].decode()

    def nobody_left(self) -> bool:
        until = time.monotonic() + 20
        pids = [int(each.split()[3]) for each in self.events if " started " in each]
        while any(psutil.pid_exists(pid) and not _zombie(pid) for pid in pids):
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
        return True


def _zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Start:
    """Start supervisors, and kill what is left of them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.started: list[Supervised] = []

    def __call__(self, *stages: dict[str, list[str]], **given: Any) -> Supervised:
        made = Supervised(self._directory, list(stages), **given)
        self.started.append(made)
        return made


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    made = Start(tmp_path)
    yield made
    for each in made.started:
        each.process.kill()
        assert "Traceback" not in each.said
        assert each.nobody_left()


def test_stages_start_in_order_and_drain_in_the_opposite_order(start: Start) -> None:
    running = start({"worker-0": [], "worker-1": []}, {"frontend": []})
    running.wait_for("supervisor ready")
    order = running.order("worker-0 ready", "frontend started", "frontend ready", "supervisor ready")
    assert order == sorted(order)
    assert running.order("worker-1 ready") < running.order("frontend started")
    assert running.end() == 0
    order = running.order("frontend stop", "frontend ended", "worker-0 stop", "worker-0 ended", "supervisor ended")
    assert order == sorted(order)
    assert running.order("frontend ended") < running.order("worker-1 stop")
    assert running.nobody_left()


def test_sigint_drains_too(start: Start) -> None:
    running = start({"worker": []})
    running.wait_for("supervisor ready")
    assert running.end(signal.SIGINT) == 0
    assert "worker ended" in running.events


def test_a_first_life_that_fails_ends_everything_with_its_own_words(start: Start) -> None:
    running = start({"good": [], "bad": ["fails"]}, {"frontend": []})
    assert running.process.wait(30) == 1
    assert any(each.startswith("supervisor failed bad: the model is broken!!!") for each in running.events)
    assert not running.pids("frontend")
    assert running.nobody_left()


def test_a_child_that_dies_is_replaced(start: Start) -> None:
    running = start({"worker": []})
    running.wait_for("supervisor ready")
    os.kill(running.pids("worker")[0], signal.SIGKILL)
    running.wait_for("worker ready", 2)
    assert [each.split()[2] for each in running.events if each.startswith("worker started")] == ["0", "1"]
    assert running.end() == 0


def test_a_child_that_ends_by_itself_is_replaced_too(start: Start) -> None:
    running = start({"worker": ["short0"]})
    running.wait_for("worker ready", 2)
    assert running.end() == 0


@pytest.mark.parametrize("how", ["silent0", "computing0"])
def test_a_child_that_hangs_is_replaced(start: Start, how: str) -> None:
    running = start({"worker": [how]}, options={"answer_seconds": 0.3 if how == "silent0" else 20.0})
    running.wait_for("supervisor ready")
    running.wait_for("worker ready", 2)
    assert not psutil.pid_exists(running.pids("worker")[0])
    assert running.end() == 0


def test_a_child_that_is_never_ready_fails_the_start(start: Start) -> None:
    running = start({"worker": ["never"]}, options={"start_seconds": 0.3})
    assert running.process.wait(30) == 1
    assert "supervisor failed worker was ended: not ready after 0 s" in running.events


def test_a_signal_during_the_start_ends_it_at_once(start: Start) -> None:
    running = start({"worker": ["never"]})
    running.wait_for("worker started")
    assert running.end() == 0
    assert "supervisor ready" not in running.events
    assert running.nobody_left()
    assert "never retrieved" not in running.said


def test_a_second_signal_ends_the_drain(start: Start) -> None:
    running = start({"worker": []}, {"frontend": ["stubborn"]})
    running.wait_for("supervisor ready")
    running.process.send_signal(signal.SIGTERM)
    running.wait_for("frontend stop")
    assert running.end() == 0
    assert "frontend ended" not in running.events
    assert running.nobody_left()


def test_a_drain_takes_no_longer_than_it_may(start: Start) -> None:
    running = start({"worker": ["stubborn"]}, drain_seconds=-4.8)
    running.wait_for("supervisor ready")
    assert running.end() == 0
    assert running.nobody_left()


def test_children_do_not_outlive_a_killed_supervisor(start: Start) -> None:
    running = start({"worker": []}, {"frontend": []})
    running.wait_for("supervisor ready")
    running.end(signal.SIGKILL)
    running.wait_for("worker orphaned")
    running.wait_for("frontend orphaned")
    assert running.nobody_left()


def test_delays_between_restarts() -> None:
    assert [restart_delay(failures) for failures in range(1, 6)] == [0.0, 0.5, 1.0, 2.0, 4.0]
    assert restart_delay(20) == restart_delay(100_000) == MAX_DELAY_SECONDS
