"""A picture of the calls answered in time against the offered load, by matplotlib.

It is drawn in another process, by a Python that has matplotlib, and no bertstream.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.drawing import draw_elsewhere

if TYPE_CHECKING:
    from benchmarks.overload.scenarios import Result


def draw(results: Sequence[Result], file: Path, python: Path) -> None:
    """Draw all scenarios into one file. Raises NotDrawn."""
    draw_elsewhere(python, "benchmarks.overload.picture", file, [asdict(result) for result in results])


def save(results: Sequence[dict[str, Any]], file: Path) -> None:
    """Draw one line per scenario. Raises ModuleNotFoundError without matplotlib."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "overload", "font.family": "sans-serif", "font.size": 9}):
        figure = Figure(figsize=(7, 3.6), layout="constrained")
        axis = figure.subplots()
        most = max(outcome["factor"] for result in results for outcome in result["outcomes"])
        axis.plot([0, 1, most], [0, 1, 1], color="#8c959f", linestyle="--", label="all that can be done")
        for result in results:
            factors = [outcome["offered"] / result["capacity"] for outcome in result["outcomes"]]
            answered = [outcome["good_tokens"] / result["capacity_tokens"] for outcome in result["outcomes"]]
            axis.plot(factors, answered, marker="o", markersize=4, label=result["title"])
        axis.set(
            xlabel="offered, times the capacity", ylabel="tokens answered in time, of the capacity", ylim=(0, 1.15)
        )
        axis.legend(frameon=False, loc="lower right")
        axis.spines[["top", "right"]].set_visible(False)
        figure.savefig(file, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))


if __name__ == "__main__":
    save(json.load(sys.stdin), Path(sys.argv[1]))
