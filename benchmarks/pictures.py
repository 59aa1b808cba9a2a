"""Bar charts of a run: one panel per workload, one bar per contender, with the range of its rounds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.drawing import Bar, draw_elsewhere
from benchmarks.figures import percentiles, spread
from benchmarks.results import ModelResults, Results

TITLES = {"lognormal": "lognormal lengths", "tokens-128": "128 tokens each", "tokens-512": "512 tokens each"}


@dataclass(frozen=True, slots=True)
class Picture:
    """A file, and the bars of its panels."""

    file: str
    title: str
    panels: dict[str, list[Bar]]  # by title; none is empty


def draw(results: Results, folder: Path, python: Path) -> dict[str, str]:
    """Draw the pictures into a folder, and return their titles by file name. Raises NotDrawn."""
    pictures = pictures_of(results)
    draw_elsewhere(python, "benchmarks.drawing", folder, [asdict(picture) for picture in pictures])
    return {picture.file: picture.title for picture in pictures}


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
