"""Test what a worker does before it computes anything."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

import psutil
import pytest

from bertstream.workers.process.control import Failed, Settings, Started
from bertstream.workers.process.settings import WorkerSettings
from bertstream.workers.process.worker import stay_on
from bertstream.workers.serving.cores import Share
from tests.support.led import led

MODULE = "bertstream.workers.process"


def cores_after(cores: list[int]) -> set[int]:
    """Return the cores of a thread that stays on these and of another that it starts."""
    found: list[set[int]] = []

    def start() -> None:
        stay_on(cores)
        inner = threading.Thread(target=lambda: found.append(os.sched_getaffinity(0)))
        inner.start()
        inner.join()

    outer = threading.Thread(target=start)
    outer.start()
    outer.join()
    return found[0]


def test_threads_stay_on_the_cores_of_the_one_that_started_them() -> None:
    usable = os.sched_getaffinity(0)
    one = min(usable)
    assert cores_after([one]) == {one}
    assert cores_after([]) == usable
    assert os.sched_getaffinity(0) == usable


def test_cores_that_are_gone_are_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert cores_after([1023]) == os.sched_getaffinity(0)
    assert "cannot stay on its cores" in caplog.text


def test_it_asks_for_its_settings_and_says_why_it_cannot_start(tmp_path: Path) -> None:
    settings = WorkerSettings(
        name="worker-7",
        directory=str(tmp_path / "no-model"),
        device="cpu",
        threads=1,
        socket=str(tmp_path / "socket"),
        running=str(tmp_path / "running"),
        batch_tokens=1,
        queue_tokens=1,
        queue_seconds=1.0,
        session_bytes=1,
        cores=(0,),
        share=Share(str(tmp_path / "cores"), 0, 2, 0),
    )
    with led(MODULE, "worker-7") as worker:
        assert worker.heard() == Started()
        worker.tell(Settings(settings))
        answer = worker.heard()
        assert isinstance(answer, Failed)
        assert answer.message.startswith(f"worker-7: {tmp_path / 'no-model'} is not a folder that can be read")
        assert worker.process.wait(30) == 1


def test_it_ends_where_its_supervisor_goes_before_it_has_its_settings() -> None:
    with led(MODULE, "worker-7") as worker:
        assert worker.heard() == Started()
        assert len(psutil.Process(worker.process.pid).cmdline()) == 5
        worker.leave()
        assert worker.process.wait(30) == 1
