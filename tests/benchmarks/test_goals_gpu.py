"""Goals of a GPU are compared only with what a run has measured there."""

from __future__ import annotations

import pytest

from benchmarks import goals_gpu
from benchmarks.contenders import CONTENDERS, Part, chosen
from benchmarks.goals import LATENCY_MODEL, SPEED_MODEL
from benchmarks.goals_gpu import goals
from benchmarks.machine import Machine
from benchmarks.peers import Choice
from benchmarks.results import Bulk, Calls, ModelResults, Processor, Quality, Results
from benchmarks.tables import goals_table, report

GPU = Machine("Some", 16, 128.0, (), "NVIDIA H100 80GB", "Linux", "3.11.7", 0.1, "570.86.15", "12.8")
SHAPE = {"num_hidden_layers": 12, "hidden_size": 768, "intermediate_size": 3072}


def bulk(texts: int, *seconds: float) -> Bulk:
    return Bulk(texts, 57 * texts, Choice(), list(seconds))


@pytest.fixture
def results() -> Results:
    fast, real = ModelResults(LATENCY_MODEL, False, SHAPE), ModelResults(SPEED_MODEL, True, SHAPE)
    fast.bulk = {
        "lognormal": {
            "bertstream": bulk(130_000, 3.0, 2.95, 3.05),
            "sentence-transformers": bulk(16_250, 6.5),  # it gets fewer texts
            "transformers sdpa": bulk(16_250, 1.625),
        },
        "tokens-128": {
            "engine, 256 texts": bulk(25_600, 1.2, 1.3, 1.25),
            "engine fp8, 256 texts": bulk(25_600, 1.1),
            "floor, 256 texts": bulk(25_600, 1.0, 1.0, 1.0),
        },
    }
    fast.calls[1] = {"bertstream": Calls([0.0012] * 98 + [0.004] * 2, [0.13])}
    fast.processor = {"bertstream": Processor(390_000, {"client": 18.0, "frontend": 45.0, "worker": 9.0})}
    fast.left_out = {"bertstream fp8": "the server did not start: it needs 9.0"}
    real.quality = {"bertstream": Quality(0.99999, 1.0, 0.99998)}
    fast.order = [contender.name for contender in chosen("cuda", False, [], [])]
    settings = {"command": "make bench", "rounds": 3, "clients": 5}
    models = {model.model: model for model in (fast, real)}
    return Results(GPU, "2026-01-01", settings, {"torch": "2.11.0"}, models)


def test_all_of_them_from_the_runs_own_figures(results: Results) -> None:
    why = "bertstream fp8: the server did not start: it needs 9.0"
    assert [(goal.aim, goal.measured, goal.outcome) for goal in goals(results)] == [
        ("≥ 42,000", "43,333 ± 2%, 16 cores, 5 clients", "reached"),
        ("≥ 50,000", "", f"not measured: {why}"),
        ("≤ 1.5 ms", "1.20 ms; p99 4.00 ms of 100 calls", "reached"),
        ("≤ 1.3", "1.25 (1.20 to 1.30); those take 10.0 ms", "reached"),
        ("≥ 25,000", "23,273 ± 0%", "**not reached**"),
        ("", "2,500 ± 0%; bertstream 17.3 times that", ""),
        ("", "10,000 ± 0%; bertstream 4.3 times that", ""),
        ("", "0.99999; mean 1.00000, ranks 0.99998", ""),
        ("", "", "not measured"),
        ("", "client 2.0, frontend 5.0, worker 1.0, supervisor 0.0; of 16", ""),
    ]


def test_other_figures_other_outcomes(results: Results) -> None:
    fast, real = results.models.values()
    fast.bulk = {
        "lognormal": {"bertstream": bulk(130_000, 3.2), "bertstream fp8": bulk(130_000, 2.5)},
        "tokens-128": {
            "engine, 256 texts": bulk(25_600, 1.4),
            "engine fp8, 256 texts": bulk(25_600, 1.0),
            "floor, 256 texts": bulk(25_600, 1.0),
        },
    }
    fast.calls[1] = {"bertstream": Calls([0.002], [0.002])}
    real.quality["bertstream fp8"] = Quality(0.997, 0.999, 0.998)
    found = {goal.measured: goal.outcome for goal in goals(results)}
    reached, missed = "reached", "**not reached**"
    assert found["40,625 ± 0%, 16 cores, 5 clients"] == missed
    assert found["52,000 ± 0%, 16 cores, 5 clients"] == reached
    assert found["1.40; those take 10.0 ms"] == missed
    assert found["25,600 ± 0%"] == reached
    assert found["2.00 ms; p99 2.00 ms of 1 calls"] == missed
    assert found["0.99700; mean 0.99900, ranks 0.99800"] == ""


def test_what_is_missing_is_not_measured(results: Results) -> None:
    results.models = {}
    found = goals(results)
    assert {(goal.measured, goal.outcome) for goal in found} == {("", "not measured")}
    assert goals_table(found, goals_gpu.ABOUT).count("| – | not measured |") == len(found) == 9


def test_the_report_says_what_it_was_measured_on(results: Results) -> None:
    text = report(results)
    assert "Some, 16 cores, NVIDIA H100 80GB (driver 570.86.15, CUDA 12.8); 128 GiB" in text
    assert "- torch 2.11.0\n" in text
    assert goals_gpu.ABOUT in text
    assert "| bertstream | 43,333.3 ± 2% (17.33 ×) |" in text
    assert "| bertstream fp8 | did not run: the server did not start: it needs 9.0 |" in text
    assert "| 1.20 | 1.20 | 4.00 |" in text


@pytest.mark.parametrize(
    ("parts", "names"),
    [
        (
            ("bulk", "batch", "single"),
            {
                *("bertstream", "bertstream fp8", "engine, 256 texts", "engine fp8, 256 texts", "floor, 256 texts"),
                *("sentence-transformers", "transformers sdpa"),
            },
        ),
        (("quality",), {"bertstream", "bertstream fp8"}),
    ],
)
def test_only_those_run_that_goals_ask_for(parts: tuple[Part, ...], names: set[str]) -> None:
    found = [each for each in chosen("cuda", False, [], [], parts) if goals_gpu.needed(each, parts)]
    assert {each.name for each in found} == names
    assert len(found) == len(names)


def test_no_device_has_two_of_a_name() -> None:
    for device in ("cpu", "cuda"):
        names = [each.name for each in CONTENDERS if each.device in ("", device)]
        assert len(set(names)) == len(names)
