from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from bertstream.server.config import ConfigError, ModelTable, ServeConfig
from bertstream.server.supervisor import launching
from bertstream.server.supervisor.launching import Launch, Launcher, pinned, workers_and_threads
from bertstream.server.supervisor.sources import choose
from bertstream.workers.compile.compiling import CompiledModel
from bertstream.workers.process.settings import WorkerSettings
from bertstream.workers.programs.description import GenerationDescription
from bertstream.workers.serving.cores import SLOTS, Share
from bertstream.workers.trust.seal import seal
from tests.server.protocols.bertstream_v1.validation.support import description


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


class Launching:
    """Launches models, each beside those launched before."""

    def __init__(self, folder: Path, *, gpus: int = 0, models: int = 1, max_tokens: int = 512, **config: Any) -> None:
        self.config = ServeConfig(**config)
        self.launcher = Launcher(self.config, folder, gpus)
        self.launches: list[Launch] = []
        self._models = models
        self._compiled = CompiledModel(str(folder / "compiled"), "cuda" if gpus else "cpu", "float32")
        (folder / "compiled").mkdir(exist_ok=True)
        description(max_tokens=max_tokens).save(folder / "compiled")
        seal(folder / "compiled")

    def __call__(self, name: str = "a", **own: Any) -> Launch:
        choice = choose(self.config, name, f"/{name}")
        for key, value in own.items():
            object.__setattr__(choice, key, value)
        self.launches.append(self.launcher.launch(choice, self._compiled, self._models, self.launches))
        return self.launches[-1]

    def told(self, launch: Launch, life: int = 4) -> list[WorkerSettings]:
        settings = [spec.settings(life) for spec in launch.specs(self.config)]
        return [each for each in settings if isinstance(each, WorkerSettings)]


@pytest.mark.parametrize(
    ("options", "workers", "threads"),
    [
        ({}, 8, 1),
        ({"workers": 2}, 2, 4),
        ({"workers": 3, "threads": 5}, 3, 5),
        ({"models": 2}, 4, 1),
        ({"models": 20}, 1, 1),
        ({"threads": 4}, 2, 4),
        ({"threads": 20}, 1, 20),
        ({"optimize": "throughput"}, 8, 1),
        ({"optimize": "latency"}, 1, 8),
        ({"optimize": "latency", "models": 2}, 1, 4),
        ({"optimize": "latency", "models": 20}, 1, 1),
        ({"optimize": "latency", "workers": 2}, 2, 4),
        ({"optimize": "latency", "threads": 3}, 2, 3),
        ({"optimize": "throughput", "threads": 3}, 2, 3),
        ({"optimize": "latency", "workers": 3, "threads": 5}, 3, 5),
        ({"gpus": 2}, 2, 4),
        ({"gpus": 2, "optimize": "latency"}, 2, 4),
        ({"gpus": 2, "threads": 1}, 2, 1),
    ],
)
def test_how_many_workers_and_threads(options: dict[str, Any], workers: int, threads: int, tmp_path: Path) -> None:
    made = Launching(tmp_path, **options)()
    assert (made.workers, made.threads) == (workers, threads)


@pytest.mark.parametrize("cores", [1, 2, 7, 96])
@pytest.mark.parametrize("optimize", ["auto", "throughput", "latency"])
def test_what_the_server_chooses_fills_the_cores(optimize: str, cores: int) -> None:
    expected = (1, cores) if optimize == "latency" else (cores, 1)
    assert workers_and_threads(optimize, cores) == expected


def test_a_model_has_workers_for_what_it_is_optimized_for(tmp_path: Path) -> None:
    launch = Launching(tmp_path, models=2, tables={"b": ModelTable(optimize="latency")})
    assert [(each.workers, each.threads) for each in (launch("a"), launch("b"))] == [(4, 1), (1, 4)]


@pytest.mark.parametrize(
    ("free", "workers", "threads", "cores"),
    [
        ([0, 1], 2, 1, ((0,), (1,))),
        ([0, 1], 1, 2, ((0, 1),)),
        ([2, 3, 5, 7, 11], 2, 2, ((2, 3), (5, 7))),
        ([0, 1], 3, 1, ()),
        ([0, 1], 1, 3, ()),
        ([], 1, 1, ()),
    ],
)
def test_workers_have_cores_of_their_own_where_there_are_enough(
    free: list[int], workers: int, threads: int, cores: tuple[tuple[int, ...], ...]
) -> None:
    assert pinned(free, workers, threads) == cores


def test_workers_stay_on_their_cores_only_where_that_is_wished(tmp_path: Path) -> None:
    launch = Launching(tmp_path, pin=True, workers=2, threads=3)
    assert [config.cores for config in launch.told(launch())] == [(0, 1, 2), (3, 4, 5)]
    (tmp_path / "other").mkdir()
    launch = Launching(tmp_path / "other", workers=2, threads=3)
    assert [config.cores for config in launch.told(launch())] == [(), ()]


def test_cores_of_one_model_are_no_other_s(tmp_path: Path) -> None:
    launch = Launching(tmp_path, pin=True, models=2)
    assert launch("a").cores == ((0,), (1,), (2,), (3,))
    assert launch("b", workers=2).cores == ((4, 5), (6, 7))
    assert launch("c", workers=1, threads=1).cores == ()  # there is none left
    assert launch("a", workers=1, threads=4).cores == ((0, 1, 2, 3),)  # those of the version that it replaces


def test_cores_are_those_that_the_process_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {9, 4, 70})
    assert Launching(tmp_path, pin=True)().cores == ((4,), (9,), (70,))


def test_workers_on_gpus_stay_nowhere(tmp_path: Path) -> None:
    assert Launching(tmp_path, gpus=2, pin=True)().cores == ()


def test_workers_share_the_cores_that_are_idle_unless_told_what_to_use(tmp_path: Path) -> None:
    launch = Launching(tmp_path, models=4, tables={"b": ModelTable(optimize="throughput")})
    assert [config.share for config in launch.told(launch("a"))] == [
        Share(str(tmp_path / "cores"), slot, cores=8, most=8) for slot in range(2)
    ]
    others = [launch("b"), launch("c", workers=2), launch("d", threads=1), launch("e", optimize="latency")]
    told = [config.share for each in others for config in launch.told(each)]
    assert [share and share.most for share in told] == [0] * 7  # but they are seen to compute
    assert [spec.environment.get("GOMP_SPINCOUNT") for spec in others[0].specs(launch.config)] == [None] * 2
    shared = launch("f")
    assert [share.slot for share in shared.shares] == [9, 10]
    assert [spec.environment.get("GOMP_SPINCOUNT") for spec in shared.specs(launch.config)] == ["20000"] * 2
    (tmp_path / "cores").write_bytes(b"\1" * SLOTS)
    shared.remove_files()
    assert (tmp_path / "cores").read_bytes() == b"\1" * 9 + b"\0\0" + b"\1" * (SLOTS - 11)


def test_pinned_workers_take_no_cores_of_others(tmp_path: Path) -> None:
    assert {share.most for share in Launching(tmp_path, pin=True)().shares} == {0}


@pytest.mark.parametrize(("cores", "config"), [(8, {"gpus": 1}), (1, {})])
def test_nothing_is_shared_where_nothing_can_be(
    cores: int, config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert Launching(tmp_path, **config)().shares == ()
    assert not (tmp_path / "cores").exists()


def test_cores_are_no_more_than_a_container_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "usable_cores", lambda cores: cores // 2)
    assert Launching(tmp_path)().workers == 4


@pytest.mark.parametrize(
    ("cores", "options", "frontends", "threads"),
    [
        (1, {}, 1, 1),
        (4, {}, 1, 4),
        (7, {}, 1, 7),
        (8, {}, 2, 4),
        (18, {}, 4, 5),
        (96, {}, 8, 12),
        (2, {"frontends": 3}, 3, 1),
        (96, {"frontends": 1}, 1, 96),
        (2, {"gpus": 1}, 1, 2),
        (16, {"gpus": 1}, 8, 2),
        (16, {"gpus": 1, "device": "cpu"}, 4, 4),
        (64, {"gpus": 8}, 8, 8),
    ],
)
def test_how_many_frontends_and_threads_that_tokenize(
    cores: int,
    options: dict[str, Any],
    frontends: int,
    threads: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    launcher = Launching(tmp_path, **options).launcher
    assert (launcher.frontends, launcher.tokenizer_threads) == (frontends, threads)


def test_threads_that_tokenize_are_divided_among_the_frontends(tmp_path: Path) -> None:
    assert Launching(tmp_path, frontends=4, tokenizer_threads=6).launcher.tokenizer_threads == 2


def test_a_batch_holds_a_text_of_the_greatest_length(tmp_path: Path) -> None:
    assert Launching(tmp_path, max_tokens=100)().batch_tokens == launching.BATCH_TOKENS["cpu"]
    assert Launching(tmp_path, max_tokens=8192)().batch_tokens == 8192
    assert Launching(tmp_path, gpus=1)().batch_tokens == 16384
    assert Launching(tmp_path, batch_tokens=600)().batch_tokens == 600


def test_replicas_go_to_the_gpus_that_have_the_fewest(tmp_path: Path) -> None:
    launch = Launching(tmp_path, gpus=2)
    assert launch("a", workers=3).devices == ("cuda:0", "cuda:1", "cuda:0")
    assert launch("b", workers=1).devices == ("cuda:1",)
    assert launch("c").devices == ("cuda:0", "cuda:1")
    assert launch("d", device="cuda:1").devices == ("cuda:1",)
    assert launch("e", device="cuda:1", workers=2).devices == ("cuda:1", "cuda:1")


def test_what_workers_are_told(tmp_path: Path) -> None:
    launch = Launching(
        tmp_path, gpus=2, batch_seconds=7.0, queue_tokens=10, queue_seconds=4.5, max_texts=2, frontends=3
    )
    launch("a")
    made = launch("b", workers=3, queue_tokens=5)
    specs, configs = made.specs(launch.config), launch.told(made)
    assert [spec.name for spec in specs] == ["worker-1-0", "worker-1-1", "worker-1-2"]
    assert tuple(config.device for config in configs) == made.devices
    assert {config.directory for config in configs} == {str(tmp_path / "compiled")}
    assert [config.socket for config in configs] == list(made.settings.sockets)
    assert len(set(made.settings.sockets)) == 3
    assert all(config.batch_tokens == 16384 for config in configs)
    assert {config.queue_tokens for config in configs} == {3 * (5 + 2 * 512)}  # what all frontends may let in
    assert {config.queue_seconds for config in configs} == {4.5}
    assert made.settings.queue_tokens == 5
    assert specs[0].module == "bertstream.workers.process"
    assert specs[0].environment["OMP_NUM_THREADS"] == str(made.threads)
    assert specs[0].computing_seconds == 7.0


@pytest.mark.parametrize(
    ("head", "wanted", "told"),
    [("causal_lm", 16384, 16384), ("causal_lm", 10, 300), ("sequence_to_sequence", 10, 512 + 300)],
)
def test_workers_that_generate_hold_the_longest_sequence(tmp_path: Path, head: str, wanted: int, told: int) -> None:
    launch = Launching(tmp_path, workers=1, cache_tokens=wanted)
    own = GenerationDescription(vocabulary_size=407, max_tokens=300)
    description(heads=(head,), generation=own).save(tmp_path / "compiled")
    seal(tmp_path / "compiled")
    assert [config.cache_tokens for config in launch.told(launch())] == [told]


def test_other_workers_are_told_nothing_of_generation(tmp_path: Path) -> None:
    launch = Launching(tmp_path, workers=1)
    assert [config.cache_tokens for config in launch.told(launch())] == [0]


def test_each_life_has_a_clean_socket_and_a_record_of_its_own(tmp_path: Path) -> None:
    launch = Launching(tmp_path, workers=1)
    made = launch()
    records = []
    for life in range(4):
        (config,) = launch.told(made, life)
        assert not Path(config.socket).exists()
        Path(config.socket).touch()
        Path(config.running).touch()
        records.append(Path(config.running))
    assert len(set(records)) == 4
    assert [record.exists() for record in records] == [False, False, True, True]  # frontends still read the last one
    other = launch()
    (tmp_path / "1-0.socket").touch()
    made.remove_files()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1-0.socket", "compiled", "cores"]
    other.remove_files()


def test_versions_of_a_model_are_told_apart(tmp_path: Path) -> None:
    launch = Launching(tmp_path)
    one, again, larger = launch("a"), launch("a"), launch("a", workers=3)
    assert one.settings.serial != again.settings.serial
    assert not set(one.settings.sockets) & set(again.settings.sockets)
    assert one.same_as(again)
    assert not one.same_as(larger)


def test_a_length_of_its_own(tmp_path: Path) -> None:
    launch = Launching(tmp_path, max_tokens=100)
    assert launch("a", max_length=100).settings.max_length == 100
    with pytest.raises(ConfigError, match=r"model\.b\.max_length: 101 is more than the model's 100"):
        launch("b", max_length=101)


def test_how_many_workers_a_caller_may_ask_for(tmp_path: Path) -> None:
    assert Launching(tmp_path).launcher.max_load_workers == 0
    assert Launching(tmp_path, load_from_hub=True).launcher.max_load_workers == 8
    assert Launching(tmp_path, model_roots=("/",), workers=20).launcher.max_load_workers == 20
