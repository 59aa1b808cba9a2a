from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from bertstream.workers.serving import cores
from bertstream.workers.serving.cores import Cores, Share
from bertstream.workers.serving.running_record import MAX_KEYS, Computing, RunningRecord, read_running

DIES = """
import os, signal, sys
from pathlib import Path
from bertstream.workers.serving import cores
from bertstream.workers.serving.cores import Cores, Share
from bertstream.workers.serving.running_record import RunningRecord
RunningRecord(Path(sys.argv[1])).set([(1, 7), (2, 9)])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_set_is_read_until_it_is_cleared(tmp_path: Path) -> None:
    record = RunningRecord(tmp_path / "running")
    assert read_running(tmp_path / "running") == frozenset()
    record.set([(1, 2), (3, 2**63)])
    assert read_running(tmp_path / "running") == {(1, 2), (3, 2**63)}
    record.set([(4, 5)])
    assert read_running(tmp_path / "running") == {(4, 5)}
    record.clear()
    assert read_running(tmp_path / "running") == frozenset()


def test_it_outlives_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "running"
    status = subprocess.run([sys.executable, "-c", DIES, str(path)], check=False, env=dict(os.environ)).returncode
    assert status == -signal.SIGKILL
    assert read_running(path) == {(1, 7), (2, 9)}


def test_more_than_fits_is_cut(tmp_path: Path) -> None:
    record = RunningRecord(tmp_path / "running")
    record.set((1, i) for i in range(MAX_KEYS + 10))
    assert read_running(tmp_path / "running") == {(1, i) for i in range(MAX_KEYS)}


def test_a_file_that_is_not_there_or_not_whole_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"\x01" * 100)
    assert read_running(tmp_path / "none") == frozenset()
    assert read_running(tmp_path / "short") == frozenset()


def test_what_is_computed_and_since_when(tmp_path: Path) -> None:
    computing = Computing(RunningRecord(tmp_path / "running"))
    assert computing.seconds == 0
    since = computing.begin([(1, 2), (1, 3)])
    assert read_running(tmp_path / "running") == {(1, 2), (1, 3)}
    assert 0 < time.monotonic() - since < computing.seconds + 1
    time.sleep(0.01)
    assert computing.seconds >= 0.01
    computing.end()
    assert computing.seconds == 0
    assert read_running(tmp_path / "running") == frozenset()


def test_who_is_in_a_hurry_computes_on_idle_cores(tmp_path: Path) -> None:
    path, threads = tmp_path / "cores", list[int]()
    cores.make(path)
    computing = Computing(RunningRecord(tmp_path / "running"), Cores(Share(str(path), 5, 4, 4), 1, threads.append))
    computing.begin([])
    computing.end()
    computing.begin([], hurry=True)
    assert path.read_bytes()[5] == 4
    computing.end()
    assert threads == [1, 4]
    assert path.read_bytes()[: cores.SLOTS] == bytes(cores.SLOTS)
