"""What processes use, from /proc: memory, and processor time by role.

Other processes on the machine hardly change the processor time, unlike the time on the wall. (psutil would be one more
package, on machines where nothing can be installed.)
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

PROC = Path("/proc")
ROLES = ("client", "frontend", "worker", "supervisor")
_MODULES = {"bertstream.server.frontend.process": "frontend", "bertstream.workers.process": "worker"}
_TICKS = os.sysconf("SC_CLK_TCK")


def memory(roots: Iterable[int], proc: Path = PROC) -> int:
    """Return the bytes of processes and their descendants; memory that several of them share is divided among them."""
    return sum(_proportional(process, proc) for root in roots for process in tree(root, proc))


def processor(server: int, clients: Iterable[int], proc: Path = PROC) -> dict[str, float]:
    """Return the processor seconds of each of ROLES so far."""
    found = dict.fromkeys(ROLES, 0.0)
    found["client"] = sum(seconds(client, proc) for client in clients)
    for process in tree(server, proc):
        found[role(process, proc)] += seconds(process, proc)
    return found


def spent(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Return the processor seconds of each of ROLES between two times."""
    return {name: after[name] - before[name] for name in ROLES}


def tree(process: int, proc: Path = PROC) -> Iterator[int]:
    """Yield the process and its descendants."""
    yield process
    for task in (proc / str(process) / "task").glob("*"):
        for child in _read(task / "children").split():
            yield from tree(int(child), proc)


def role(process: int, proc: Path = PROC) -> str:
    """Return the role of a server's process, by the module that it runs."""
    arguments = _read(proc / str(process) / "cmdline").split("\0")
    return next((_MODULES[each] for each in arguments if each in _MODULES), "supervisor")


def seconds(process: int, proc: Path = PROC) -> float:
    """Return the processor seconds of all threads of a process, including ended ones; 0 for a process that is gone."""
    return _ticks(process, proc, 11, 13) / _TICKS


def of_tree(process: int, proc: Path = PROC) -> float:
    """Return the processor seconds of a process and of its descendants so far."""
    return sum(seconds(each, proc) for each in tree(process, proc))


def seconds_so_far(process: int, proc: Path = PROC) -> float:
    """Return the same, with those of descendants that have ended and been waited for."""
    return sum(_ticks(each, proc, 11, 15) for each in tree(process, proc)) / _TICKS


def _ticks(process: int, proc: Path, start: int, end: int) -> int:
    """Return the sum of fields of a process's times: its own user and system time, then its ended children's."""
    fields = _read(proc / str(process) / "stat").rpartition(")")[2].split()  # the name may have spaces and brackets
    return sum(map(int, fields[start:end]))


def _proportional(process: int, proc: Path) -> int:
    sizes = dict(line.split()[:2] for line in _read(proc / str(process) / "smaps_rollup").splitlines()[1:])
    return int(sizes.get("Pss:", 0)) << 10


def _read(path: Path) -> str:
    """Return the text of a file, or an empty string if the process has ended meanwhile."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
