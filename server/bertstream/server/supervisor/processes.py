"""How much memory and processor time a process takes, as Linux tells it (proc(5))."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_USER, _SYSTEM = 11, 12  # places of utime and stime behind the command's name


@dataclass(frozen=True, slots=True)
class Used:
    """What a process takes."""

    resident_bytes: int = 0
    cpu_seconds: float = 0.0  # since it started


def used_by(pid: int, proc: Path = Path("/proc")) -> Used:
    """Return what a process takes; zeros for one that has ended."""
    try:
        pages = int((proc / str(pid) / "statm").read_text().split()[1])
        fields = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (OSError, IndexError):
        return Used()
    return Used(pages * _PAGE_BYTES, (int(fields[_USER]) + int(fields[_SYSTEM])) / _TICKS)
