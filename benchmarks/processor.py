"""Processor time of a bertstream server and of those who send to it, by what each process does, from /proc.

Unlike the time on the wall, others on the machine hardly change it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks.memory import PROC, tree

ROLES = ("client", "frontend", "worker", "supervisor")
_MODULES = {"bertstream.server.frontend": "frontend", "bertstream.workers.process": "worker"}
_TICKS = os.sysconf("SC_CLK_TCK")


def of_roles(server: int, clients: Iterable[int], proc: Path = PROC) -> dict[str, float]:
    """Seconds that each of ROLES has computed up to now."""
    found = dict.fromkeys(ROLES, 0.0)
    found["client"] = sum(seconds(client, proc) for client in clients)
    for process in tree(server, proc):
        found[role(process, proc)] += seconds(process, proc)
    return found


def spent(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Seconds of each of ROLES between two times."""
    return {name: after[name] - before[name] for name in ROLES}


def role(process: int, proc: Path = PROC) -> str:
    """Of a server's process, by the module that it runs."""
    try:
        arguments = (proc / str(process) / "cmdline").read_text(encoding="utf-8", errors="replace").split("\0")
    except OSError:  # it has ended meanwhile
        arguments = []
    return next((_MODULES[each] for each in arguments if each in _MODULES), "supervisor")


def seconds(process: int, proc: Path = PROC) -> float:
    """That all its threads have computed, those that ended too; 0 for a process that is gone."""
    try:
        text = (proc / str(process) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0.0
    user, system = text.rsplit(")", 1)[1].split()[11:13]  # a name may have blanks and brackets
    return (int(user) + int(system)) / _TICKS
