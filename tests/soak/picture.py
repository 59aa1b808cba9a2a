"""Memory, descriptors and threads of each process over time, as lines by matplotlib.

Drawn in a process of its own, by a Python that has matplotlib: `python -m tests.soak.picture samples.csv soak.svg`.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

PANELS = {"resident_bytes": "memory, MiB", "descriptors": "descriptors", "threads": "threads"}


def save(samples: Path, file: Path) -> None:
    """Draw a panel a quantity, a line a process. Raises ModuleNotFoundError where there is no matplotlib."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with samples.open(newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "soak", "font.family": "sans-serif", "font.size": 9}):
        figure = Figure(figsize=(8, 7), layout="constrained")
        for axis, (name, title) in zip(figure.subplots(len(PANELS), sharex=True), PANELS.items(), strict=True):
            unit = 1 << 20 if name == "resident_bytes" else 1
            for process in sorted({row["process"] for row in rows}):
                mine = [row for row in rows if row["process"] == process]
                times = [float(row["seconds"]) / 60 for row in mine]
                axis.plot(times, [float(row[name]) / unit for row in mine], label=process, linewidth=1)
            axis.set(ylabel=title, ylim=(0, None))
            axis.spines[["top", "right"]].set_visible(False)
        axis.set(xlabel="minutes")
        figure.legend(*axis.get_legend_handles_labels(), frameon=False, loc="outside right upper")
        figure.savefig(file, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))


if __name__ == "__main__":
    save(Path(sys.argv[1]), Path(sys.argv[2]))
