"""A run: processes that are measured, and the reasons of those that cannot be."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import workloads
from benchmarks.contenders import CONTENDERS, PARTS, Contender, Environment, Part, chosen, precision
from benchmarks.entrants import Place
from benchmarks.models import ModelSpec
from benchmarks.peers import Settings
from benchmarks.processes import Driver, Failed, together
from benchmarks.results import ModelResults
from benchmarks.rounds import Plan, Run
from benchmarks.tables import main_table
from benchmarks.workloads import Sizes


def settings(checkpoint: Path, adapter: str, **options: str) -> Settings:
    return Settings(adapter, str(checkpoint), "", "float32", "cpu", 1, 64, "", options)


@pytest.fixture(scope="module")
def floor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    from tests.support.checkpoints import tiny_bert

    driver = Driver(Path(sys.executable), settings(tiny_bert(tmp_path_factory.mktemp("bert")), "floor"))
    yield driver
    driver.close()


def test_a_process_loads_and_measures(floor: Driver) -> None:
    assert floor.versions["torch"]
    floor.ask("texts", name="few", texts=["the quick brown fox", "dog"])
    choice = {"batch_size": 32, "streams": 1}
    (answer,) = together([floor], "bulk", {"name": "few", "choice": choice})
    assert 0 < answer["end"] - answer["start"] < 60
    assert len(floor.ask("unary", name="few", concurrency=1)["latencies"]) == 2


def test_a_failed_command_says_why_and_the_process_goes_on(floor: Driver) -> None:
    with pytest.raises(Failed, match="takes one call at a time"):
        floor.ask("unary", name="few", concurrency=8)
    with pytest.raises(Failed, match="KeyError: 'none such'"):
        floor.ask("unary", name="none such", concurrency=1)
    assert floor.ask("texts", name="few", texts=["a"]) == {}


def test_a_peer_that_is_not_installed_says_so(tmp_path: Path) -> None:
    with pytest.raises(Failed, match=r"No module named 'benchmarks\.peers\.none_such'"):
        Driver(Path(sys.executable), settings(tmp_path, "none_such"))
    with pytest.raises(Failed, match="infinity-emb is not installed"):
        Driver(Path(sys.executable), settings(tmp_path, "infinity", python=str(tmp_path / "bin" / "python")))


def test_a_process_that_ends_says_its_last_words(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho it is broken >&2\nexit 3\n")
    python.chmod(0o755)
    with pytest.raises(Failed, match="status 3: it is broken"):
        Driver(python, settings(tmp_path, "floor"))


def test_who_does_not_start_is_said_so_in_the_table_and_stops_nobody(tmp_path: Path) -> None:
    from tests.support.checkpoints import tiny_bert

    broken = Contender("broken server", "grpc_client", serve=("--dtype", "int3"), parts=("single",))
    contenders = [broken, Contender("no adapter", "none_such"), Contender("floor", "floor", a_core_each=True)]
    plan = Plan(9, Sizes(4, 4, 4, 4), tuning=1, mixed_seconds=0.1, interactive_rate=1.0, parts=("single",))
    told: list[ModelResults] = []

    def make(folder: Path) -> None:
        tiny_bert(folder)

    def place(directory: Path, work: Path, calibration: Path) -> Place:
        python = Path(sys.executable)
        pythons: dict[Environment, Path] = {"own": python, "peers": python, "infinity": python}
        return Place(directory, work, tmp_path / "compiled", "cpu", 1, 1, (), pythons, calibration)

    spec = ModelSpec("small", make, cost=1.0, real=False)
    found = Run(spec, contenders, plan, place, told.append, deadline=0.0).measure(tmp_path)
    assert told == [found, found]  # after the only round for which there was time, and at the end
    lines = {line.split(" | ")[0].strip("| "): line for line in main_table(found).splitlines()[2:]}
    status = "did not run: the server did not start: the process ended with status 2: "
    assert f"{status}argument --dtype: " in lines["broken server"]
    assert "did not run: ModuleNotFoundError: No module named 'benchmarks.peers.none_such'" in lines["no adapter"]
    assert len({line.count(" |") for line in lines.values()}) == 1
    assert list(found.calls) == [1]
    assert {name: len(calls.latencies) for name, calls in found.calls[1].items()} == {"floor": 4}
    assert {"starting", "one text a call, 1 at once"} <= set(found.took)


def test_contenders_are_chosen_by_the_beginnings_of_their_names() -> None:
    names = [contender.name for contender in chosen("cpu", False, ["openvino", "Floor"], ["OpenVINO bf"])]
    assert names == ["floor", "floor int8", "floor bfloat16", "floor, 1 process", "OpenVINO", "OpenVINO int8"]
    with pytest.raises(ValueError, match="there is no contender 'tensorflow'"):
        chosen("cpu", False, ["tensorflow"], [])


def test_contenders_are_chosen_by_what_is_measured() -> None:
    def names(part: Part) -> list[str]:
        return [contender.name for contender in chosen("cpu", False, [], [], [part])]

    assert names("mixed") == ["bertstream", "bertstream int8"]
    assert names("frontends") == ["bertstream, 1 frontend", "bertstream, 2 frontends"]
    assert "floor" in names("bulk")
    assert "floor" not in names("quality")


def test_quick_mode_has_fewer_contenders_and_a_gpu_others() -> None:
    def names(device: str, *, quick: bool) -> set[str]:
        return {contender.name for contender in chosen(device, quick, [], [], PARTS)}

    everywhere = {each.name for each in CONTENDERS if not each.device}
    assert names("cpu", quick=True) < names("cpu", quick=False)
    assert everywhere < names("cpu", quick=False) & names("cuda", quick=False)
    assert "engine, 1 process" not in names("cuda", quick=False)
    assert "engine fp8" not in names("cpu", quick=False)
    ours = chosen("cuda", False, ["bertstream"], [])
    assert {precision(contender, "cuda") for contender in ours} == {"float16", "fp8"}


def test_others_are_given_fewer_texts_where_they_take_longer() -> None:
    sizes = Sizes(lognormal=64, tokens_128=4, tokens_512=4, single=4)
    plan = Plan(1, sizes, 1, 0.1, 1.0, ("bulk", "batch"), bulk=("lognormal",), peer_share=8)

    def place(directory: Path, work: Path, calibration: Path) -> Place:
        raise AssertionError("nothing is started here")

    run = Run(ModelSpec("small", lambda folder: None, cost=1.0, real=False), [], plan, place)
    run.workloads = workloads.make(sizes, lambda texts: [2 + len(text.split()) for text in texts])
    ours, other = (Contender("a", "floor"), Contender("b", "floor", "peers"))
    assert [len(run.workload_for(each, "lognormal").texts) for each in (ours, other)] == [64, 8]
    assert len(run.workload_for(other, "single").texts) == 4
    assert run.bulk_workloads(ours) == ("lognormal",)
    assert run.bulk_workloads(Contender("c", "floor", parts=("batch",))) == ("tokens-128",)
