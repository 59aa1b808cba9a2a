from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from bertstream.server.frontend.machine import Machine


def write(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def stat(user: int, system: int, idle: int) -> str:
    return f"cpu  {user} 0 {system} {idle} 50 0 0 0 0 0\ncpu0 1 2 3 4\n"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_without_a_limit_it_is_the_machine_that_counts(tmp_path: Path) -> None:
    ticks, cores = os.sysconf("SC_CLK_TCK"), os.cpu_count() or 1
    write(tmp_path, {"proc/stat": stat(0, 0, 0), "proc/meminfo": "MemTotal: 1000 kB\nMemAvailable: 250 kB\n"})
    clock = Clock()
    machine = Machine(tmp_path, clock)
    assert machine.measure() == (0.0, 0.75)
    clock.now = 2.0
    write(tmp_path, {"proc/stat": stat(ticks * cores // 2, ticks * cores // 2, 9)})
    assert machine.measure() == pytest.approx((0.5, 0.75))


def test_a_container_s_limits_are_what_there_is(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/pod"
    write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/pod/inner\n",
            "proc/stat": stat(0, 0, 0),
            f"{group}/inner/cpu.max": "max 100000\n",
            f"{group}/cpu.max": "150000 100000\n",
            f"{group}/cpu.stat": "usage_usec 1000000\nuser_usec 900000\n",
            f"{group}/inner/memory.max": "1000\n",
            f"{group}/inner/memory.current": "700\n",
            f"{group}/inner/memory.stat": "anon 500\ninactive_file 200\n",
        },
    )
    clock = Clock()
    machine = Machine(tmp_path, clock)
    clock.now = 1.0
    write(tmp_path, {f"{group}/cpu.stat": "usage_usec 1750000\n"})
    assert machine.measure() == pytest.approx((0.5, 0.5))


def test_it_measures_no_more_than_twice_a_second(tmp_path: Path) -> None:
    write(tmp_path, {"proc/stat": stat(0, 0, 0)})
    clock = Clock()
    machine = Machine(tmp_path, clock)
    write(tmp_path, {"proc/stat": stat(1000, 0, 0)})
    clock.now = 0.4
    assert machine.measure()[0] == 0.0
    clock.now = 0.6
    assert machine.measure()[0] > 0.0


def test_where_nothing_can_be_read_nothing_is_used(tmp_path: Path) -> None:
    clock = Clock()
    machine = Machine(tmp_path, clock)
    clock.now = 1.0
    assert machine.measure() == (0.0, 0.0)


def test_this_machine_is_measured() -> None:
    clock = Clock()
    cpu, memory = Machine(clock=clock).measure()
    assert cpu >= 0.0
    assert 0.0 < memory < 1.0
