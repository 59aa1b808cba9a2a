"""The engine of an actor, with a tiny model in it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="pyarrow is not installed (bertstream[ray])")

from bertstream.ray.data.actors import engine_of
from bertstream.ray.data.asking import ask
from bertstream.ray.data.engine import EmbeddedEngine
from bertstream.ray.data.tasks import EngineFailed


def test_an_engine_answers_from_any_thread_and_ends(checkpoint: Callable[[str], Path], compile_cache: Path) -> None:
    engine = EmbeddedEngine({"models": [str(checkpoint("bert"))], "workers": 1, "cache": str(compile_cache)})
    try:
        texts = [f"text {number}" for number in range(600)]
        first, second = (engine.begin(lambda client: ask(client, "encode", texts, {})) for _ in range(2))
        vectors = np.stack(first.result())
        assert np.array_equal(vectors, np.stack(second.result()))
        none = engine.begin(lambda client: client.encode([])).result()
        assert vectors.shape == (600, none.shape[1])
        tokens = engine.begin(lambda client: ask(client, "tokenize", ["two words"], {})).result()
        assert len(tokens[0][0].tokens) > 3
    finally:
        engine.close()


@pytest.mark.parametrize(
    ("options", "message"), [({"models": ["/no/such/checkpoint"]}, "no/such"), ({"port": 1}, "no option 'port'")]
)
def test_an_engine_that_does_not_start_says_why(options: dict[str, object], message: str) -> None:
    engine = EmbeddedEngine(options)
    with pytest.raises(EngineFailed, match=message):
        engine.begin(lambda client: client.models())
    engine.close()


def test_an_engine_can_be_closed_while_its_thread_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    lingers, may_end = threading.Event(), threading.Event()

    class Lingering(threading.Thread):
        def run(self) -> None:
            super().run()  # to the end, at which the engine's loop is closed
            lingers.set()
            may_end.wait(30)

    with monkeypatch.context() as patch:
        patch.setattr(threading, "Thread", Lingering)
        engine = EmbeddedEngine({"port": 1})
    assert lingers.wait(30)
    threading.Timer(0.3, may_end.set).start()
    engine.close()
    assert may_end.is_set()


class OtherLoops(asyncio.DefaultEventLoopPolicy):
    """Gives no loop of asyncio's own, as a process has it that has installed uvloop."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        raise NotImplementedError("another kind of loop")


def test_an_actor_goes_back_to_loops_of_asyncio() -> None:
    before = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(OtherLoops())
    try:
        engine = engine_of({"models": ["/no/such/checkpoint"]})
        assert type(asyncio.get_event_loop_policy()) is asyncio.DefaultEventLoopPolicy
        with pytest.raises(EngineFailed, match="no/such"):
            engine.begin(lambda client: client.models())
    finally:
        asyncio.set_event_loop_policy(before)
