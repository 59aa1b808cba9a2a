from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from bertstream.server.core.callers import NOBODY
from bertstream.server.core.dispatch import outlook as outlook_module
from bertstream.server.core.dispatch.outlook import Wait
from bertstream.server.core.gate import Gate
from bertstream.server.frontend import load as load_module
from bertstream.server.frontend.load import FrontendLoad
from tests.support.waiting import stopped_clock


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped_clock(monkeypatch, outlook_module, load_module)


def link(seconds: float, generation_seconds: float = 0.0) -> Any:
    wait, generation_wait = Wait(), Wait()
    wait.say(seconds)
    generation_wait.say(generation_seconds)
    return SimpleNamespace(wait=wait, generation_wait=generation_wait)


def model(name: str, *links: Any, held: float = 0.0, generates: bool = False) -> Any:
    return SimpleNamespace(
        name=name,
        dispatcher=SimpleNamespace(live=links),
        admission=SimpleNamespace(fullness=held),
        generation_admission=SimpleNamespace(fullness=0.0),
        description=SimpleNamespace(generation=object() if generates else None),
    )


class Machine:
    """A machine of which 0.25 of the processor and 0.5 of the memory are used."""

    def measure(self) -> tuple[float, float]:
        return 0.25, 0.5


def load_of(*models: Any, gate: Gate | None = None) -> Any:
    given: Any = models
    machine: Any = Machine()
    return FrontendLoad(given, gate or Gate(10), 30.0, machine).measure()


@pytest.mark.parametrize(
    ("models", "application"),
    [
        (lambda: (), 0.25),
        (lambda: (model("a", link(3.0), link(9.0)),), 0.25),  # 0.1 of the queue, less than the processor's load
        (lambda: (model("a", link(15.0)), model("b", link(0.0), held=0.75)), 0.75),
        (lambda: (model("a", link(15.0)), model("b", link(0.0))), 0.5),
        (lambda: (model("a", link(0.0, 24.0), generates=True),), 0.8),
        (lambda: (model("a", link(0.0, 24.0)),), 0.25),
        (lambda: (model("a"),), 1.0),  # no worker is alive
    ],
)
def test_the_fullest_bound_is_the_load(models: Callable[[], tuple[Any, ...]], application: float) -> None:
    load = load_of(*models())
    assert (load.cpu, load.memory) == (0.25, 0.5)
    assert load.application == pytest.approx(application, abs=0.01)


def test_each_model_tells_how_long_a_call_would_wait_unless_nobody_can_tell() -> None:
    assert load_of(model("a", link(3.0), link(1.0)), model("b")).queue_seconds == {"a": pytest.approx(1.0, abs=0.1)}


def test_a_server_that_takes_no_calls_is_full() -> None:
    gate = Gate(4)
    with gate.passing(NOBODY), gate.passing(NOBODY):
        assert gate.fullness == load_of(gate=gate).application == 0.5
    gate.close()
    assert gate.fullness == load_of(gate=gate).application == 1.0
