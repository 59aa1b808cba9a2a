"""How busy the processors and the memory are that this server may use: its control group's, or the machine's.

Sources: proc(5), and https://docs.kernel.org/admin-guide/cgroup-v2.html.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

_SAMPLE_SECONDS = 0.5  # the kernel counts in hundredths of a second
_TICKS = os.sysconf("SC_CLK_TCK")
_BUSY = (0, 1, 2, 5, 6)  # user, nice, system, and the two kinds of interrupts


class Machine:
    """Measures at most twice a second; between that it says what it measured last."""

    def __init__(self, root: Path = Path("/"), clock: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._clock = clock
        self._groups = tuple(_groups(root))
        self._at, self._used = clock(), self._cpu_seconds()
        self._cpu, self._memory = 0.0, self._memory_part()

    def measure(self) -> tuple[float, float]:
        """Return the parts of the usable processor time and memory that are used."""
        now = self._clock()
        if now - self._at >= _SAMPLE_SECONDS:
            used = self._cpu_seconds()
            self._cpu = max(0.0, (used - self._used) / (now - self._at) / self._cores())
            self._memory = self._memory_part()
            self._at, self._used = now, used
        return self._cpu, self._memory

    def _memory_part(self) -> float:
        """Return the part that is used, without what the kernel could take back at once."""
        for group in self._groups:
            limit, used = _number(group / "memory.max"), _number(group / "memory.current")
            if limit and used is not None:
                inactive = _named(group / "memory.stat").get("inactive_file", 0.0)
                return min(1.0, max(0.0, used - inactive) / limit)
        told = _named(self._root / "proc/meminfo")
        return 1.0 - told.get("MemAvailable:", 0.0) / told["MemTotal:"] if told.get("MemTotal:") else 0.0

    def _quota(self) -> tuple[Path, float] | None:
        """Return the nearest group whose processor time is limited, and to how many cores."""
        for group in self._groups:
            words = _text(group / "cpu.max").split()
            if len(words) == 2 and all(word.isdecimal() for word in words) and int(words[1]):
                return group, int(words[0]) / int(words[1])
        return None

    def _cpu_seconds(self) -> float:
        if limited := self._quota():
            return _named(limited[0] / "cpu.stat").get("usage_usec", 0.0) / 1e6
        words = _text(self._root / "proc/stat").partition("\n")[0].split()[1:]
        return sum(int(words[place]) for place in _BUSY if place < len(words)) / _TICKS

    def _cores(self) -> float:
        limited = self._quota()
        return limited[1] if limited else float(os.cpu_count() or 1)


def _groups(root: Path) -> Iterator[Path]:
    """Yield the control groups of this process, from its own outwards.

    In a container the path may be what the host calls it, and what is mounted is the group itself.
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        path = line.removeprefix("0::")
        if path != line:
            yield from (root / "sys/fs/cgroup" / str(each).lstrip("/") for each in (path, *PurePosixPath(path).parents))


def _named(path: Path) -> dict[str, float]:
    """Return the numbers of a file of lines such as "MemTotal: 123 kB", by what stands before them."""
    lines = (line.split() for line in _text(path).splitlines())
    return {words[0]: float(words[1]) for words in lines if len(words) > 1 and words[1].isdecimal()}


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
