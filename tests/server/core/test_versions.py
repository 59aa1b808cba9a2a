from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models

from bertstream.server.core.callers import Caller
from bertstream.server.core.errors import RequestError
from bertstream.server.core.versions import Versions, in_turn
from bertstream.server.settings import FrontendSettings, Limits, ModelSettings
from bertstream.workers.trust.seal import seal
from tests.server.protocols.bertstream_v1.validation.support import description
from tests.support.fake_worker import FakeWorker
from tests.support.waiting import until

Make = Callable[[int], ModelSettings]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return a function that makes the settings of a version with one worker, which is not started."""

    def made(serial: int) -> ModelSettings:
        folder = tmp_path / str(serial)
        folder.mkdir()
        Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]")).save(str(folder / "tokenizer.json"))
        description(vocabulary_size=1, revision=str(serial)).save(folder)
        seal(folder)
        return ModelSettings("m", str(folder), (str(tmp_path / f"{serial}.socket"),), 100, serial=serial)

    return made


@pytest.fixture
async def workers(tmp_path: Path) -> AsyncIterator[list[FakeWorker]]:
    made = [FakeWorker(tmp_path / f"{serial}.socket") for serial in range(3)]
    yield made
    for worker in made:
        await worker.close()


@pytest.fixture
async def versions() -> AsyncIterator[Versions]:
    limits = Limits(4, 1 << 20, 1 << 20, 1 << 20, 8, 100, 1 << 20, 8)
    settings = FrontendSettings("frontend", "h", 1, "v", (), limits, 1, 0.5, 1.0, "info")
    made = Versions(settings, ThreadPoolExecutor(1), lambda: None)
    yield made
    await made.close()


@pytest.mark.parametrize(
    ("frontends", "workers", "firsts"),
    [(1, 3, "0"), (2, 4, "02"), (2, 1, "00"), (4, 2, "0011"), (3, 2, "001"), (3, 4, "012")],
)
def test_each_frontend_has_another_worker_first(frontends: int, workers: int, firsts: str) -> None:
    sockets = tuple(str(number) for number in range(workers))
    limits = Limits(4, 1 << 20, 1 << 20, 1 << 20, 8, 100, 1 << 20, 8)
    found = ""
    for number in range(frontends):
        frontend = FrontendSettings(
            "f", "h", 1, "v", (), limits, 1, 0.5, 1.0, "info", number=number, frontends=frontends
        )
        own = in_turn(ModelSettings("m", "/m", sockets, 100, serial=7), frontend).sockets
        assert sorted(own) == list(sockets)
        found += own[0]
    assert found == firsts


async def test_a_version_serves_once_its_workers_answer(
    versions: Versions, make: Make, workers: list[FakeWorker]
) -> None:
    await workers[0].start()
    old, new = make(0), make(1)
    await versions.serve([old])
    change = asyncio.create_task(versions.serve([new]))
    await asyncio.sleep(0.2)
    assert [model.serial for model in versions.models] == [0]
    await workers[1].start()
    await asyncio.wait_for(change, 20)
    assert [model.serial for model in versions.models] == [1]
    await versions.serve([new])
    await asyncio.wait_for(versions.drained([0, 7]), 20)


async def test_a_version_goes_when_its_calls_are_done(
    versions: Versions, make: Make, workers: list[FakeWorker]
) -> None:
    for worker in workers:
        await worker.start()
    await versions.serve([make(0)])
    call = ExitStack()
    model = versions.models.get("m", call, Caller("anyone"))
    await versions.serve([make(1)])
    drained = asyncio.create_task(versions.drained([0]))
    await asyncio.sleep(0.05)
    assert not drained.done()
    assert model.dispatcher.live
    call.close()
    await asyncio.wait_for(drained, 20)
    await until(lambda: not model.dispatcher.live)


async def test_a_call_that_takes_too_long_loses_its_workers(
    versions: Versions, make: Make, workers: list[FakeWorker]
) -> None:
    for worker in workers:
        await worker.start()
    await versions.serve([make(0)])
    model = versions.models.get("m", call := ExitStack(), Caller("anyone"))
    await versions.serve([make(1)])
    await asyncio.wait_for(versions.drained([0]), 20)
    await until(lambda: not model.dispatcher.live)
    with pytest.raises(RequestError) as raised:
        await model.dispatcher.least_loaded(float("inf"), float("inf"))
    assert raised.value.reason == "MODEL_REPLACED"
    call.close()


async def test_what_cannot_be_served_changes_nothing(versions: Versions, make: Make, workers: list[FakeWorker]) -> None:
    await workers[0].start()
    old, bad = make(0), make(1)
    await versions.serve([old])
    (Path(bad.directory) / "tokenizer.json").write_text("{")
    seal(Path(bad.directory))
    with pytest.raises(Exception, match="EOF"):
        await versions.serve([bad])
    assert [model.serial for model in versions.models] == [0]
    call = ExitStack()
    assert versions.models.get("", call, Caller("anyone")).dispatcher.live
    call.close()
