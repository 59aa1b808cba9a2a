"""Bar charts by matplotlib: one panel per workload, one bar per contender, with the range of its rounds.

They are drawn in another process (`main`), by a Python that has matplotlib, which a server does not need.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import percentiles, spread
from benchmarks.results import ModelResults, Results

ROOT = Path(__file__).parents[1]
DRAWING_SECONDS = 120.0
OURS, BOUNDS, OTHERS = "#1f6feb", "#8c959f", "#d4a72c"
TITLES = {"lognormal": "lognormal lengths", "tokens-128": "128 tokens each", "tokens-512": "512 tokens each"}


class NotDrawn(Exception):
    """Pictures could not be drawn; the message says why, in one line."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A value, and the range of its measurements."""

    label: str
    value: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Picture:
    """A file, and the bars of its panels."""

    file: str
    title: str
    panels: dict[str, list[Bar]]  # by title; none is empty


def draw(results: Results, folder: Path, python: Path) -> dict[str, str]:
    """Draw the pictures into a folder, and return their titles by file name. Raises NotDrawn."""
    pictures = pictures_of(results)
    draw_elsewhere(python, "benchmarks.pictures", folder, [asdict(picture) for picture in pictures])
    return {picture.file: picture.title for picture in pictures}


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


def pictures_of(results: Results) -> list[Picture]:
    """Return the pictures that have anything to show."""
    found = [picture for model in results.models.values() for picture in (many_texts(model), one_text(model))]
    return [picture for picture in found if picture.panels]


def many_texts(model: ModelResults) -> Picture:
    """Return the picture of texts per second on each workload."""
    panels = {}
    for workload, measured in model.bulk.items():
        rates = {name: spread(measured[name].rates) for name in model.order if name in measured}
        panels[f"{TITLES[workload]}, texts/s"] = [Bar(name, r.median, r.least, r.most) for name, r in rates.items()]
    return Picture(f"{model.model}-bulk.svg", f"{model.model}: many texts (longer is better)", panels)


def one_text(model: ModelResults) -> Picture:
    """Return the picture of milliseconds for one text: the median, and the range up to the 99th percentile."""
    calls = model.calls.get(1, {})
    found = {name: percentiles(calls[name].latencies) for name in model.order if name in calls}
    bars = [Bar(name, each.p50 * 1e3, each.p50 * 1e3, each.p99 * 1e3) for name, each in found.items()]
    panels = {"milliseconds, p50 and up to p99": bars} if bars else {}
    return Picture(f"{model.model}-single.svg", f"{model.model}: one text at a time (shorter is better)", panels)


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
