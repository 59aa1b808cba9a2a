"""Tables of measurements."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.machine import Machine
from benchmarks.peers import Choice
from benchmarks.results import Bulk, Calls, Mixed, ModelResults, Processor, Quality, Results
from benchmarks.tables import main_table, report

MACHINE = Machine("Some(R) Processor @ 2.00GHz", 2, 8.0, ("avx2",), "", "Linux 6.1", "3.11.7", 0.1)


def test_the_heading_says_which_kind_of_processor_it_is(results: Results) -> None:
    known = replace(MACHINE, kind="AVX2", busy=0.04)
    text = report(replace(results, machine=known))
    assert "\n- kind of processor: AVX2\n" in text
    assert "others used 4% of the processors" in text
    assert "more instructions" not in text
    text = report(replace(results, machine=replace(known, forced=True)))
    assert "\n- kind of processor: AVX2, forced\n" in text
    assert "more instructions than bertstream and torch were allowed" in text


@pytest.fixture
def results() -> Results:
    shape = {"num_hidden_layers": 6, "hidden_size": 384, "intermediate_size": 1536}
    model = ModelResults("mini", True, shape, order=["bertstream", "engine", "sentence-transformers", "gone"])
    model.bulk = {
        "lognormal": {
            "bertstream": Bulk(100, 5700, Choice(), [0.5, 0.4, 0.6]),
            "sentence-transformers": Bulk(100, 5700, Choice(8), [1.0, 1.1, 0.9]),
        },
        "tokens-128": {"sentence-transformers": Bulk(10, 1280, Choice(128, 2), [1.0])},
    }
    model.calls = {
        8: {"bertstream": Calls([0.05] * 10, [0.25])},
        1: {"bertstream": Calls([0.01] * 99 + [0.03], [1.2]), "engine": Calls([0.02], [0.02])},
    }
    model.mixed["bertstream"] = Mixed(
        10.0,
        alone=[100.0],
        beside=[90.0],
        alone_processor=[50.0],
        beside_processor=[48.0],
        batches=[0.04],
        idle=[0.02, 0.03],
        latencies=[0.06, 0.08],
        idle_parts=[{"queue": 0.001, "compute": 0.01}],
        parts=[{"queue": 0.03, "compute": 0.01}, {"queue": 0.05, "compute": 0.03}],
    )
    model.processor["bertstream"] = Processor(200, {"client": 0.1, "frontend": 0.2, "worker": 2.0})
    model.took = {"starting": 12.3}
    model.quality = {"bertstream": Quality(0.99987, 0.99999, 0.9995), "exact": Quality(1.0, 1.0, 1.0)}
    model.memory = {"bertstream": 512 << 20}
    model.versions = {"sentence-transformers": {"torch": "2.13.0"}}
    model.left_out = {"gone": "ModuleNotFoundError: No module named 'gone'", "engine": "it broke"}
    model.order.append("exact")
    settings = {"command": "make bench QUICK=1", "mode": "quick", "rounds": 3}
    return Results(MACHINE, "2026-01-01", settings, {"bertstream": "0.1.0"}, {"mini": model})


def rows(table: str) -> dict[str, list[str]]:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {first: rest for first, *rest in cells}


def test_a_line_a_contender_with_its_ratio_to_the_baseline(results: Results) -> None:
    table = rows(main_table(results.models["mini"]))
    assert table["bertstream"][0] == "200.0 ± 21% (2.00 ×)"
    assert table["bertstream"][3:7] == ["11,400", "10.0", "10.0", "10.0"]
    assert table["bertstream"][7:] == ["512", "0.99987", "0.99950"]
    assert table["sentence-transformers"][:2] == ["100.0 ± 10% (1.00 ×)", "10.0 ± 0% (1.00 ×)"]
    assert table["sentence-transformers"][4] == "–"
    assert table["gone"] == ["did not run: ModuleNotFoundError: No module named 'gone'", *["–"] * 9]
    assert table["exact"] == [*["–"] * 8, "1.00000", "1.00000"]
    assert table["engine"][:5] == ["–", "–", "–", "–", "20.0"]


def test_the_report_has_all_of_it(results: Results) -> None:
    text = report(results)
    assert "Some(R) Processor @ 2.00GHz, 2 cores; 8 GiB; avx2" in text
    assert "| bertstream | 1 | 10.0 | 10.0 | 10.0 | 83.3 |\n| bertstream | 8 | 50.0 | 50.0 | 50.0 | 40.0 |" in text
    assert "| bertstream, idle | 10 | 2 | 20.0 | 30.0 | 30.0 | 0.75 × | 40.0 | 100.0 texts/s alone |" in text
    kept = "90% of that; of that a second of its processors 96%"
    assert f"| bertstream, busy | 10 | 2 | 60.0 | 80.0 | 80.0 | 2.00 × | 40.0 | {kept} |" in text
    assert "| bertstream, idle | 1.0 / 1.0 | 10.0 / 10.0 |" in text
    assert "| bertstream, busy | 40.0 / 50.0 | 20.0 / 30.0 |" in text
    assert "| bertstream | 200.0 | 0.500 | 1.000 | 10.000 | 0.000 |" in text
    assert "| engine | it broke |" in text
    assert text.count("No module named 'gone'") == 1
    assert "Seconds: starting 12" in text
    assert text.rstrip().splitlines()[-1].endswith("| – | not measured |")
    assert "tokens-128 in batches of 128 on 2 streams" in text
    assert "- 3 rounds, contenders taking turns; mode quick\n- `make bench QUICK=1`\n" in text
    assert ".svg" not in text
    assert "\n\n![Many](mini-bulk.svg)\n\n" in report(results, {"mini-bulk.svg": "Many"})
    assert "not quiet" not in text
    results.machine = replace(MACHINE, busy=0.3)
    assert "The machine was not quiet" in report(results)


def test_results_are_written_as_json(results: Results, tmp_path: Path) -> None:
    results.save(tmp_path / "results.json")
    (model,) = json.loads((tmp_path / "results.json").read_text("utf-8"))["models"].values()
    assert model["bulk"]["lognormal"]["bertstream"]["seconds"] == [0.5, 0.4, 0.6]
    assert model["calls"]["8"]["bertstream"]["latencies"] == [0.05] * 10


def test_a_folder_is_named_by_the_machine() -> None:
    assert MACHINE.slug == "some-processor-2-cores"
    assert replace(MACHINE, gpu="Some H100 80GB").slug == "some-h100-80gb"
