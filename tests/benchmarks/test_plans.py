"""What a run measures according to its options."""

from __future__ import annotations

import argparse
import math
import re
import sys

import pytest
import torch

import benchmarks.__main__ as main
from benchmarks import goals, goals_gpu, plans
from benchmarks.machine import describe
from benchmarks.models import MODELS
from benchmarks.processes import PATIENT
from benchmarks.workloads import BULK

BASE, MINI = MODELS["bert-base"], MODELS["all-MiniLM-L6-v2"]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(sys, "argv", ["benchmarks"])
    return monkeypatch


def options(told: pytest.MonkeyPatch, *flags: str) -> argparse.Namespace:
    told.setattr(sys, "argv", ["benchmarks", *flags])
    return main.arguments()


def test_goals_of_a_gpu_take_only_what_they_need(told: pytest.MonkeyPatch) -> None:
    asked = options(told, "--device", "cuda", "--goals", "--peers", "here")
    assert plans.chosen_models(asked) == ("bert-base", "all-MiniLM-L6-v2")
    assert plans.parts(asked, BASE) == ("bulk", "batch", "single")
    assert plans.parts(asked, MINI) == ("quality",)
    assert [each.name for each in plans.contenders(asked, MINI)] == ["bertstream", "bertstream fp8"]
    assert "engine, 256 texts" in [each.name for each in plans.contenders(asked, BASE)]
    plan = plans.planned(asked)
    assert (plan.bulk, plan.single_tokens, plan.sizes.lognormal) == (("lognormal",), 128, 131_072)
    assert plan.sizes.tokens_512 == 4  # which no contender gets
    assert 0 < plans.deadline(asked, 1000.0) - 1000.0 < 480
    assert plans.patience(asked).start < 480


def test_limits_are_for_the_goals_of_a_gpu_alone(told: pytest.MonkeyPatch) -> None:
    for flags in (["--goals"], ["--device", "cuda"], ["--device", "cuda", "--goals", "--seconds", "0"]):
        assert plans.deadline(options(told, *flags), 1000.0) == math.inf
    assert plans.deadline(options(told, "--seconds", "60"), 1000.0) == 1060.0
    assert plans.patience(options(told, "--device", "cuda")) == PATIENT


def test_the_processors_plan_is_what_it_was(told: pytest.MonkeyPatch) -> None:
    asked = options(told, "--goals")
    assert plans.planned(asked) == plans.FULL
    assert (plans.FULL.bulk, plans.FULL.peer_share, plans.FULL.by_cost, plans.FULL.single_tokens) == (BULK, 1, True, 0)
    assert plans.chosen_models(asked) == ("all-MiniLM-L6-v2", "bert-base")
    assert plans.parts(asked, BASE) == ("single",)
    assert plans.chosen_models(options(told, "--quick")) == ("all-MiniLM-L6-v2",)
    assert plans.chosen_models(options(told, "--device", "cuda", "--quick")) == ("bert-base",)


@pytest.mark.parametrize(
    ("flags", "cores", "clients"),
    [
        ([], 16, 1),
        (["--clients", "3"], 16, 3),
        (["--device", "cuda"], 16, 5),
        (["--device", "cuda"], 2, 1),
        (["--device", "cuda"], 64, 8),
        (["--device", "cuda", "--clients", "12"], 16, 12),
    ],
)
def test_as_many_clients_as_the_server_can_use(
    told: pytest.MonkeyPatch, flags: list[str], cores: int, clients: int
) -> None:
    assert plans.clients(options(told, *flags), cores) == clients


def test_others_run_in_this_environment_where_that_is_asked_for(told: pytest.MonkeyPatch) -> None:
    machine = describe("cpu")
    for flags, here in (([], False), (["--peers", "here"], True)):
        place = main.place(options(told, *flags), machine, main.ROOT, main.ROOT, main.ROOT)
        assert (str(place.pythons["peers"]) == sys.executable) is here
        assert (str(place.pythons["infinity"]) == sys.executable) is here
        assert str(place.pythons["own"]) == sys.executable


def test_without_a_gpu_there_is_one_line(told: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    told.setattr(sys, "argv", ["benchmarks", "--device", "cuda", "--goals"])
    told.setattr(torch.cuda, "is_available", lambda: False)
    assert main.main() == 2
    said = capsys.readouterr().err
    assert said.startswith(f"benchmarks: error: torch {torch.__version__} sees no CUDA device here")
    assert said.count("\n") == 1


def test_each_device_has_its_own_goals() -> None:
    assert (plans.judge("cpu"), plans.judge("cuda")) == (goals, goals_gpu)


def test_commands_of_the_document_are_understood(told: pytest.MonkeyPatch) -> None:
    text = (main.ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    listed = re.findall(r"BENCH_ARGS='([^']*)'", text) + re.findall(r"`python -m benchmarks ([^`]*)`", text)
    assert "--device cuda --goals --peers here" in listed
    for command in listed:
        asked = options(told, *command.split())
        assert plans.duel_parts(asked) or all(
            plans.contenders(asked, MODELS[name]) for name in plans.chosen_models(asked)
        )
