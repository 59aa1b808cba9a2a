"""Memory of a process and all that it started, from /proc."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Memory:
    """Of several processes together."""

    processes: int
    resident: int  # bytes; what two of them share counts twice
    proportional: int  # bytes; what several share is divided among them


def of_tree(process: int, proc: Path = PROC) -> Memory:
    """Of a process and its descendants, as far as they still live."""
    found = [sizes for each in tree(process, proc) if (sizes := _sizes(proc / str(each))) is not None]
    return Memory(len(found), sum(resident for resident, _ in found), sum(shared for _, shared in found))


def tree(process: int, proc: Path = PROC) -> Iterator[int]:
    """The process and its descendants."""
    yield process
    for children in (proc / str(process) / "task").glob("*/children"):
        try:
            listed = children.read_text(encoding="ascii").split()
        except OSError:  # it has ended meanwhile
            continue
        for child in listed:
            yield from tree(int(child), proc)


def _sizes(folder: Path) -> tuple[int, int] | None:
    try:
        lines = (folder / "smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    sizes = {name.rstrip(":"): int(size) << 10 for name, size, *_ in (line.split() for line in lines[1:])}
    return sizes["Rss"], sizes["Pss"]
