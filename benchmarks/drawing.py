"""Draw bars by matplotlib, in another process (`main`), by a Python that has it, which a server does not need.

That Python has no bertstream, and so this module needs none.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DRAWING_SECONDS = 120.0
OURS, BOUNDS, OTHERS = "#1f6feb", "#8c959f", "#d4a72c"


class NotDrawn(Exception):
    """Pictures could not be drawn; the message says why, in one line."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A value, and the range of its measurements."""

    label: str
    value: float
    least: float
    most: float


def draw_elsewhere(python: Path, module: str, target: Path, described: object) -> None:
    """Run a module that draws what standard input describes, as JSON, into the target. Raises NotDrawn."""
    if not python.is_file():
        raise NotDrawn("there is no .venv-bench; run `make bench`, or name a Python that has matplotlib")
    try:
        subprocess.run(
            [str(python), "-m", module, str(target.resolve())],
            input=json.dumps(described),
            cwd=ROOT,
            env={**os.environ, "MPLCONFIGDIR": str(ROOT / ".build/matplotlib")},
            capture_output=True,
            text=True,
            check=True,
            timeout=DRAWING_SECONDS,
        )
    except subprocess.CalledProcessError as error:
        raise NotDrawn((error.stderr.strip().splitlines() or ["it said nothing"])[-1]) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotDrawn(str(error)) from None


def save(file: Path, title: str, panels: dict[str, list[dict[str, Any]]]) -> None:
    """Draw one picture. Raises ModuleNotFoundError without matplotlib."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    heights = [len(bars) + 2 for bars in panels.values()]
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": title, "font.family": "sans-serif", "font.size": 9}):
        figure = Figure(figsize=(8, 0.24 * sum(heights) + 0.4), layout="constrained")
        figure.suptitle(title)
        axes = figure.subplots(len(panels), squeeze=False, height_ratios=heights)[:, 0]
        for axis, (name, bars) in zip(axes, panels.items(), strict=True):
            panel(axis, name, [Bar(**bar) for bar in bars])
        figure.savefig(file, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))


def panel(axis: Any, title: str, bars: Sequence[Bar]) -> None:
    """Draw one panel, with the first contender at the top, and each figure behind its bar."""
    labels, values = [bar.label for bar in bars], [bar.value for bar in bars]
    ranges = [[bar.value - bar.least for bar in bars], [bar.most - bar.value for bar in bars]]
    drawn = axis.barh(labels, values, xerr=ranges, color=[color(label) for label in labels], ecolor="#24292f99")
    axis.bar_label(drawn, [f"{value:,.4g}" if value < 1000 else f"{value:,.0f}" for value in values], padding=4)
    axis.set_title(title, fontsize="medium", loc="left")
    axis.invert_yaxis()
    axis.margins(x=0.1)
    axis.xaxis.set_visible(False)
    axis.spines[["top", "right", "bottom"]].set_visible(False)


def color(label: str) -> str:
    """Return the colour of a bar: bertstream, its bounds, or others."""
    if label.startswith(("floor", "engine")):
        return BOUNDS
    return OURS if label.startswith("bertstream") else OTHERS


def main() -> None:
    """Draw the pictures that standard input describes into the folder named on the command line."""
    for picture in json.load(sys.stdin):
        save(Path(sys.argv[1]) / picture["file"], picture["title"], picture["panels"])


if __name__ == "__main__":
    main()
