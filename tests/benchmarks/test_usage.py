"""Memory, and processor time by role."""

from __future__ import annotations

import os
import time
from pathlib import Path

from benchmarks import usage

FRONTEND = "python\0-P\0-m\0bertstream.server.frontend.process\0{}\0"
WORKER = "python\0-P\0-m\0bertstream.workers.process\0{}\0"


def process(
    proc: Path, number: int, command: str, ticks: tuple[int, int], children: str = "", ended: tuple[int, int] = (0, 0)
) -> None:
    folder = proc / str(number)
    task = folder / "task" / str(number)
    task.mkdir(parents=True)
    (task / "children").write_text(children)
    (folder / "cmdline").write_text(command)
    fields = " ".join(["S", *"1" * 10, *map(str, ticks), *map(str, ended), *"0" * 6])
    (folder / "stat").write_text(f"{number} (a name) of) {fields}\n")


def test_each_process_of_a_server_counts_for_what_it_does(tmp_path: Path) -> None:
    second = os.sysconf("SC_CLK_TCK")
    process(tmp_path, 7, "python\0-m\0bertstream.cli\0serve\0", (second, 0), "8 9 10 11 ")
    process(tmp_path, 8, FRONTEND, (2 * second, second))
    process(tmp_path, 9, WORKER, (5 * second, 0))
    process(tmp_path, 10, WORKER, (6 * second, second))
    process(tmp_path, 20, "python\0-m\0benchmarks.peers.host\0", (0, second // 2))
    found = usage.processor(7, [20, 21], tmp_path)  # 11 and 21 have ended meanwhile
    assert found == {"client": 0.5, "frontend": 3.0, "worker": 12.0, "supervisor": 1.0}


def test_a_tree_counts_its_processes_and_if_asked_those_that_have_ended(tmp_path: Path) -> None:
    second = os.sysconf("SC_CLK_TCK")
    process(tmp_path, 7, "serve\0", (second, 0), "8 9 ", ended=(2 * second, second))
    process(tmp_path, 8, WORKER, (5 * second, 0), ended=(0, second))
    assert usage.of_tree(7, tmp_path) == 6.0
    assert usage.seconds_so_far(7, tmp_path) == 10.0


def test_what_was_taken_between_two_times() -> None:
    before, after = dict.fromkeys(usage.ROLES, 1.0), dict.fromkeys(usage.ROLES, 3.5)
    assert usage.spent(before, after) == dict.fromkeys(usage.ROLES, 2.5)


def test_this_process_has_computed_as_long_as_it_says() -> None:
    assert abs(usage.seconds(os.getpid()) - time.process_time()) < 0.5


def test_memory_is_that_of_this_process() -> None:
    assert 10 << 20 < usage.memory([os.getpid()]) < 100 << 30


def test_memory_counts_descendants(tmp_path: Path) -> None:
    for number, children, size in ((7, "8 9 ", 100), (8, "10 ", 10), (10, "", 5)):  # 9 has ended meanwhile
        process(tmp_path, number, WORKER, (0, 0), children)
        rollup = f"00-ff ---p 0 0:0 0 [rollup]\nRss: {2 * size} kB\nPss: {size} kB\n"
        (tmp_path / str(number) / "smaps_rollup").write_text(rollup)
    assert usage.memory([7], tmp_path) == 115 << 10
    assert usage.memory([8, 9], tmp_path) == 15 << 10
