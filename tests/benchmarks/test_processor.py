"""Processor time by what processes do."""

from __future__ import annotations

import os
import time
from pathlib import Path

from benchmarks import processor

FRONTEND = "python\0-P\0-m\0bertstream.server.frontend\0{}\0"
WORKER = "python\0-P\0-m\0bertstream.workers.process\0{}\0"


def process(proc: Path, number: int, command: str, ticks: tuple[int, int], children: str = "") -> None:
    folder = proc / str(number)
    task = folder / "task" / str(number)
    task.mkdir(parents=True)
    (task / "children").write_text(children)
    (folder / "cmdline").write_text(command)
    fields = " ".join(["S", *"1" * 10, *map(str, ticks), *"0" * 8])
    (folder / "stat").write_text(f"{number} (a name) of) {fields}\n")


def test_each_process_of_a_server_counts_for_what_it_does(tmp_path: Path) -> None:
    second = os.sysconf("SC_CLK_TCK")
    process(tmp_path, 7, "python\0-m\0bertstream.cli\0serve\0", (second, 0), "8 9 10 11 ")
    process(tmp_path, 8, FRONTEND, (2 * second, second))
    process(tmp_path, 9, WORKER, (5 * second, 0))
    process(tmp_path, 10, WORKER, (6 * second, second))
    process(tmp_path, 20, "python\0-m\0benchmarks.peers.host\0", (0, second // 2))
    found = processor.of_roles(7, [20, 21], tmp_path)  # 11 and 21 have ended meanwhile
    assert found == {"client": 0.5, "frontend": 3.0, "worker": 12.0, "supervisor": 1.0}


def test_what_was_taken_between_two_times() -> None:
    before, after = dict.fromkeys(processor.ROLES, 1.0), dict.fromkeys(processor.ROLES, 3.5)
    assert processor.spent(before, after) == dict.fromkeys(processor.ROLES, 2.5)


def test_this_process_has_computed_as_long_as_it_says() -> None:
    assert abs(processor.seconds(os.getpid()) - time.process_time()) < 0.5
