from __future__ import annotations

from pathlib import Path

import pytest

from bertstream.server.supervisor.quota import usable_cores


def machine(root: Path, groups: str, files: dict[str, str]) -> Path:
    """Return a root folder in which the process has these control groups, with files in /sys/fs/cgroup."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/\n", {}, 8),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "400000 100000\n"}, 4),
        ("0::/\n", {"cpu.max": "350000 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "6400000 100000\n"}, 8),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "200000 100000\n"}, 2),
        ("0::/a/b\n", {"a/b/cpu.max": "300000 100000\n", "a/cpu.max": "200000 100000\n"}, 2),
        ("0::/docker/123\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/a/b\n", {"other/cpu.max": "100000 100000\n"}, 8),
        ("2:cpuset:/\n1:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ("1:cpu,cpuacct:/d\n", {"cpu/d/cpu.cfs_quota_us": "250000", "cpu/d/cpu.cfs_period_us": "100000"}, 2),
        (
            "1:cpu,cpuacct:/d\n",
            {"cpu,cpuacct/cpu.cfs_quota_us": "500000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            5,
        ),
        ("2:memory:/\n", {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ("0::/\n", {"cpu.max": "what is this\n"}, 8),
    ],
)
def test_what_a_group_may_use(groups: str, files: dict[str, str], cores: int, tmp_path: Path) -> None:
    assert usable_cores(8, machine(tmp_path, groups, files)) == cores


def test_without_groups_all_cores_are_used(tmp_path: Path) -> None:
    assert usable_cores(8, tmp_path) == 8
