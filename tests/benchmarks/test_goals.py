"""Goals are compared only with what a run has measured."""

from __future__ import annotations

import pytest

from benchmarks.contenders import CONTENDERS, PARTS, Part
from benchmarks.goals import ABOUT, LATENCY_MODEL, SPEED_MODEL, goals, needed, of_speeds
from benchmarks.machine import Machine
from benchmarks.peers import Choice
from benchmarks.results import Bulk, Calls, Mixed, ModelResults, Quality, Results
from benchmarks.tables import goals_table
from benchmarks.workloads import BULK

# Seconds for the same texts, on each workload.
SECONDS = {
    "bertstream": [1.0, 1.1, 0.9],
    "bertstream int8": [0.5, 0.5, 0.5],
    "engine": [0.95, 0.95, 0.95],
    "engine int8": [0.3, 0.3, 0.3],
    "sentence-transformers": [2.2, 2.0, 2.1],
    "OpenVINO": [1.08, 1.08, 1.08],
    "ONNX Runtime": [1.4, 1.4, 1.4],
    "OpenVINO int8": [0.7, 0.7, 0.7],
    "CTranslate2 int8": [0.8, 0.8, 0.8],
    "OpenVINO bfloat16": [0.1, 0.1, 0.1],  # needed by no goal
}


def bulk(seconds: list[float]) -> Bulk:
    return Bulk(100, 5700, Choice(), seconds)


@pytest.fixture
def results() -> Results:
    fast, slow = ModelResults(SPEED_MODEL, True, {}), ModelResults(LATENCY_MODEL, False, {})
    fast.bulk = {workload: {name: bulk(seconds) for name, seconds in SECONDS.items()} for workload in BULK}
    fast.quality = {"bertstream int8": Quality(0.99812, 0.9999, 0.999)}
    beside = [0.1] * 99 + [0.3, 0.44]
    fast.mixed = {"bertstream": Mixed(10.0, [200.0], [184.0], batches=[0.15, 0.16, 0.14], latencies=beside)}
    slow.calls[1] = {
        "bertstream": Calls([0.060] * 3, [0.2]),
        "bertstream, 1 worker": Calls([0.040] * 3, [0.1]),
        "ONNX Runtime": Calls([0.043] * 3, [0.1]),
        "OpenVINO": Calls([0.045] * 3, [0.1]),
        "OpenVINO bfloat16": Calls([0.010] * 3, [0.1]),
    }
    machine = Machine("Some", 2, 8.0, (), "", "Linux", "3.11.7", 0.1)
    return Results(machine, "2026-01-01", {}, {}, {model.model: model for model in (fast, slow)})


def test_all_of_them_from_the_runs_own_figures(results: Results) -> None:
    assert [(goal.aim, goal.measured, goal.outcome) for goal in goals(results)] == [
        ("≥ 2", "2.10 (1.82 to 2.33)", "reached"),
        ("≥ 1.1", "1.08 (0.98 to 1.20) OpenVINO", "**not reached**"),
        ("≥ 1.1", "1.08 (0.98 to 1.20) OpenVINO", "**not reached**"),
        *[("≥ 1.2", "1.40 (1.40 to 1.40) OpenVINO int8", "reached")] * 3,
        ("≥ 0.998", "0.99812", "reached"),
        ("≤ 1", "0.93: bertstream, 1 worker 40.0 ms, ONNX Runtime 43.0 ms", "reached"),
        ("≤ 10%", "5.0%", "reached"),
        ("≤ 10%", "40.0%", "**not reached**"),
        ("≤ 3", "2.00: 300 ms of 101 calls, 150 ms a batch", "reached"),
        ("≤ 3", "", "not measured"),
        ("≥ 90%", "92%, with 10 calls/s", "reached"),
        ("≥ 90%", "", "not measured"),
    ]


def test_other_figures_other_outcomes(results: Results) -> None:
    fast, slow = results.models.values()
    fast.quality["bertstream int8"] = Quality(0.9975, 0.9999, 0.999)
    fast.mixed["bertstream"] = Mixed(10.0, [200.0], [170.0], batches=[0.15], latencies=[0.5] * 10)
    del slow.calls[1]["bertstream, 1 worker"]
    found = {goal.measured: goal.outcome for goal in goals(results)}
    for measured in (
        "0.99750",
        "1.40: bertstream 60.0 ms, ONNX Runtime 43.0 ms",
        "3.33: 500 ms of 10 calls, 150 ms a batch",
        "85%, with 10 calls/s",
    ):
        assert found[measured] == "**not reached**"


def test_what_is_missing_is_not_measured(results: Results) -> None:
    results.models = {}
    found = goals(results)
    assert len(found) == 14
    assert {(goal.measured, goal.outcome) for goal in found} == {("", "not measured")}
    assert goals_table(found, ABOUT).count("| – | not measured |") == 14


def test_a_contender_that_stopped_early_is_compared_by_its_rounds(results: Results) -> None:
    ratio = of_speeds(bulk([1.0, 2.0]), bulk([3.0]))
    assert ratio is not None
    assert (ratio.value, ratio.rounds, str(ratio)) == (2.0, [3.0], "2.00")
    assert of_speeds(None, bulk([3.0])) is None


@pytest.mark.parametrize(
    ("parts", "some", "none"),
    [
        (("bulk", "mixed", "quality"), {"bertstream int8", "engine", "OpenVINO int8"}, {"floor", "OpenVINO bfloat16"}),
        (("single",), {"bertstream, 1 worker", "infinity"}, {"bertstream int8", "engine", "CTranslate2 int8"}),
    ],
)
def test_only_those_run_that_goals_ask_for(parts: tuple[Part, ...], some: set[str], none: set[str]) -> None:
    found = {each.name for each in CONTENDERS if needed(each, parts)}
    assert some <= found
    assert not none & found
    assert found <= {each.name for each in CONTENDERS if set(parts) & set(each.parts)}


def test_every_goal_needs_contenders_that_there_are() -> None:
    names = {each.name for each in CONTENDERS}
    measured = {name for parts in (("bulk",), ("single",)) for name in names_of(parts)}
    assert set(SECONDS) - {"OpenVINO bfloat16"} <= measured <= names
    assert set(PARTS) == {part for each in CONTENDERS for part in each.parts}


def names_of(parts: tuple[Part, ...]) -> set[str]:
    return {each.name for each in CONTENDERS if needed(each, parts)}
