"""Pictures of measurements."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.drawing import ROOT, Bar, NotDrawn, color
from benchmarks.machine import describe
from benchmarks.peers import Choice
from benchmarks.pictures import draw, pictures_of
from benchmarks.results import Bulk, Calls, ModelResults, Results

DRAWING_PYTHON = ROOT / ".venv-bench/bin/python"


@pytest.fixture
def results() -> Results:
    model = ModelResults("mini", True, {}, order=["bertstream", "engine", "OpenVINO <2>", "gone"])
    model.bulk = {
        "lognormal": {
            "OpenVINO <2>": Bulk(100, 5700, Choice(), [1.0, 2.0, 0.5]),
            "bertstream": Bulk(100, 5700, Choice(), [0.05]),
        },
        "tokens-512": {"engine": Bulk(10, 5120, Choice(), [1.0])},
    }
    return Results(describe("cpu"), "2026-01-01", {}, {}, {"mini": model, "other": ModelResults("other", False, {})})


def test_a_panel_a_workload_and_a_bar_a_contender(results: Results) -> None:
    (found,) = pictures_of(results)
    assert found.file == "mini-bulk.svg"
    assert found.panels == {
        "lognormal lengths, texts/s": [Bar("bertstream", 2000, 2000, 2000), Bar("OpenVINO <2>", 100, 50, 200)],
        "512 tokens each, texts/s": [Bar("engine", 10, 10, 10)],
    }


def test_one_text_has_its_median_and_reaches_to_its_99th_percentile(results: Results) -> None:
    model = results.models["other"]
    model.order, model.calls = ["bertstream"], {1: {"bertstream": Calls([0.25] * 98 + [0.5] * 2, [30.0])}}
    found = pictures_of(results)[1]
    assert (found.file, list(found.panels.values())) == ("other-single.svg", [[Bar("bertstream", 250, 250, 500)]])


def test_ours_bounds_and_others_are_told_apart() -> None:
    ours, bound, other = (color(name) for name in ("bertstream int8", "engine, 1 process", "OpenVINO"))
    assert len({ours, bound, other}) == 3
    assert color("floor") == bound


def test_who_cannot_draw_says_why(results: Results, tmp_path: Path) -> None:
    with pytest.raises(NotDrawn, match="there is no"):
        draw(results, tmp_path, tmp_path / "python")
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'Traceback\nModuleNotFoundError: No matplotlib' >&2\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(NotDrawn, match=r"^ModuleNotFoundError: No matplotlib$"):
        draw(results, tmp_path, python)


@pytest.mark.parametrize(
    ("module", "described"),
    [
        ("benchmarks.drawing", '[{"file": "x.svg", "title": "x", "panels": {}}]'),
        ("benchmarks.overload.picture", "[]"),
    ],
)
def test_what_draws_needs_matplotlib_alone(module: str, described: str, tmp_path: Path) -> None:
    """The Python that has it has no bertstream; -S leaves out all that is installed."""
    command = [sys.executable, "-S", "-m", module, str(tmp_path / "x")]
    done = subprocess.run(command, cwd=ROOT, input=described, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'matplotlib'"


def has_matplotlib(python: Path) -> bool:
    """Return whether a Python has matplotlib."""
    return python.is_file() and not subprocess.run([python, "-c", "import matplotlib"], capture_output=True).returncode


def test_pictures_are_drawn_where_matplotlib_is(results: Results, tmp_path: Path) -> None:
    python = next(filter(has_matplotlib, (Path(sys.executable), DRAWING_PYTHON)), None)
    if python is None:
        pytest.skip("matplotlib comes with `make bench`")
    assert draw(results, tmp_path, python) == {"mini-bulk.svg": "mini: many texts (longer is better)"}
    root = ElementTree.parse(tmp_path / "mini-bulk.svg").getroot()
    texts = {"".join(each.itertext()).strip() for each in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"bertstream", "OpenVINO <2>", "engine", "lognormal lengths, texts/s", "2,000", "100", "10"} <= texts
