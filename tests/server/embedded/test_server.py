"""A server within this process: its answers, its workers' lives, and that nothing outlives it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
import pytest

from bertstream.server.config import ConfigError
from bertstream.server.embedded import EmbeddedServer, ServerFailed
from tests.support.embedded import vectors
from tests.support.pairs import Pair
from tests.support.waiting import until

TEXTS = ["The quick brown fox", "a", "words and sentences " * 20]


def workers_of(pid: int) -> list[psutil.Process]:
    """Return a process's own workers, and not those of servers that it has started."""
    found = []
    for child in psutil.Process(pid).children():
        with suppress(psutil.Error):  # one that has just ended, be it of another test
            if "bertstream.workers.process" in child.cmdline():
                found.append(child)
    return found


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def served_apart(model: Path, *code: str) -> Iterator[psutil.Process]:
    """Yield a process with an embedded server that is ready, and kill it."""
    command = [sys.executable, *(code or ("-m", "tests.support.embedded")), str(model)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield psutil.Process(process.pid)
        finally:
            process.kill()


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Have servers make their folders of sockets in this one, whose path is short enough for sockets."""
    with TemporaryDirectory() as folder:
        monkeypatch.setattr("tempfile.tempdir", folder)
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


async def test_it_answers_replaces_workers_and_leaves_nothing(
    checkpoint: Callable[[str], Path], pair: Callable[..., Pair], sockets: Path
) -> None:
    async with EmbeddedServer(models=[checkpoint("bert")], workers=1) as server:
        assert [model.name for model in server.models] == ["bert"]
        assert server.live
        before = await vectors(server, TEXTS)
        assert before.shape == (3, 36)
        alone = np.concatenate([await vectors(server, [text]) for text in TEXTS])
        np.testing.assert_allclose(before, alone, atol=1e-6)

        (worker,) = workers_of(os.getpid())
        worker.kill()
        np.testing.assert_array_equal(await vectors(server, TEXTS), before)  # it waits for the next worker
        await until(lambda: server.live)
        (other,) = workers_of(os.getpid())
        assert other.pid != worker.pid
        assert len(files(sockets)) == 1
    await until(lambda: not server.live)
    assert workers_of(os.getpid()) == []
    assert files(sockets) == []


async def test_a_server_that_cannot_start_says_why_and_leaves_nothing(sockets: Path) -> None:
    with pytest.raises(ServerFailed, match="nowhere") as failed:
        async with EmbeddedServer(models=[f"{sockets}/nowhere"]):
            raise AssertionError
    assert len(str(failed.value).splitlines()) == 1
    with pytest.raises(ConfigError, match="two models are called 'a'"):
        async with EmbeddedServer(models=["a=b", "a=c"]):
            raise AssertionError
    assert files(sockets) == []


async def test_a_start_that_is_cancelled_leaves_nothing(checkpoint: Callable[[str], Path], sockets: Path) -> None:
    server = EmbeddedServer(models=[checkpoint("bert")], workers=1)
    starting = asyncio.create_task(server.__aenter__())
    await until(lambda: files(sockets))
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert workers_of(os.getpid()) == []
    assert files(sockets) == []


async def test_before_the_start_there_are_no_models() -> None:
    with pytest.raises(RuntimeError, match="use `async with`"):
        list(EmbeddedServer().models)


async def test_nothing_outlives_a_process_that_is_killed(checkpoint: Callable[[str], Path], sockets: Path) -> None:
    with served_apart(checkpoint("bert")) as process:
        children = process.children(recursive=True)
        assert children
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []
    await until(lambda: not files(sockets))


def test_it_runs_in_the_loop_of_others(checkpoint: Callable[[str], Path]) -> None:
    """uvloop, which Ray installs for all of a process, knows fewer ways to start a child, and has other transports."""
    if find_spec("uvloop") is None:
        pytest.skip("uvloop is not installed")
    code = "import uvloop; uvloop.install(); from tests.support.embedded import main; main()"
    with served_apart(checkpoint("bert"), "-c", code) as process:
        assert workers_of(process.pid)
