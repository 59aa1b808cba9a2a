"""How much processor time a container may use, as workers should not count cores that it sees but may not fill.

Linux's control groups, of version 2 (cpu.max) and 1 (cpu.cfs_quota_us); see cgroups(7).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_GROUPS = "sys/fs/cgroup"


def usable_cores(cores: int, root: Path = Path("/")) -> int:
    """Return how many of the cores that a process may run on it can keep busy, at least one."""
    least = min(_limits(root), default=float(cores))
    return max(1, min(cores, int(least)))


def _limits(root: Path) -> Iterator[float]:
    """Yield the limits, in cores, of this process's control groups and of all groups around them."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        names = controllers.split(",") if controllers else []
        if names and "cpu" not in names:
            continue
        mounts = [root / _GROUPS / controllers, root / _GROUPS / "cpu"] if names else [root / _GROUPS]
        for mount in mounts:
            # In a container the path may be what the host calls it, and what is mounted is the group itself.
            for group in (path, *map(str, PurePosixPath(path).parents)):
                yield from _limit(mount / group.lstrip("/"))


def _limit(group: Path) -> Iterator[float]:
    found = _read(group / "cpu.max").split() or [_read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")]
    try:
        quota, period = (int(each) for each in found)
    except ValueError:  # "max", or no such file
        return
    if quota > 0 and period > 0:
        yield quota / period


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
