from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from bertstream.workers.process import child as child_module
from bertstream.workers.process import logs, strays
from bertstream.workers.process.child import Child, ChildFailed, ChildSpec, describe
from bertstream.workers.process.control import NoAnswer, Stop
from tests.support import child as scripted
from tests.support.waiting import until


def spec(directory: Path, *behaviour: str, **options: Any) -> ChildSpec:
    return scripted.spec(directory, "child", *behaviour, **options)


async def test_a_child_says_that_it_is_ready_and_stops_when_told(tmp_path: Path) -> None:
    heard: list[Any] = []
    child = await Child.start(spec(tmp_path, on_progress=heard.append), 4)
    waiting = asyncio.create_task(child.wait())
    assert await child.ready == [child.pid, 4]
    assert heard == ["loading"]
    child.stop()
    assert await waiting == 0
    child.tell(Stop())  # it is gone, and nothing happens
    child.kill()


async def test_one_that_cannot_start_says_why_at_any_length(tmp_path: Path) -> None:
    child = await Child.start(spec(tmp_path, "fails"), 0)
    assert await child.wait() == 1
    with pytest.raises(ChildFailed, match="child: the model is broken!!!"):
        await child.ready


async def test_one_that_dies_without_a_word(tmp_path: Path) -> None:
    child = await Child.start(spec(tmp_path, "dies"), 0)
    assert await child.wait() == -signal.SIGKILL
    with pytest.raises(ChildFailed, match="child ended with signal SIGKILL"):
        await child.ready


async def test_one_that_talks_nonsense(tmp_path: Path) -> None:
    child = await Child.start(spec(tmp_path, "garbage"), 0)
    await child.wait()
    with pytest.raises(ChildFailed):
        await child.ready


async def test_one_that_talks_nonsense_and_stays_is_not_waited_for(tmp_path: Path) -> None:
    child = await Child.start(spec(tmp_path, "nonsense", "never"), 0)
    async with asyncio.timeout(60):
        await child.wait()
    with pytest.raises(ChildFailed, match="it said what makes no sense"):
        await child.ready


async def test_what_a_child_leaves_behind_does_not_hold_up_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "LAST_WORDS_SECONDS", 0.05)
    child = await Child.start(spec(tmp_path, "leaves"), 0)
    waiting = asyncio.create_task(child.wait())
    await child.ready
    child.stop()
    assert await asyncio.wait_for(waiting, 20) == 0
    os.killpg(child.pid, signal.SIGKILL)  # the grandchild


async def test_one_that_cannot_even_be_spawned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(ChildFailed, match="child cannot be started"):
        await Child.start(spec(tmp_path), 0)


async def test_what_counts_as_hanging(tmp_path: Path) -> None:
    child = await Child.start(spec(tmp_path, "silent0", answer_seconds=-1.0, start_seconds=1000.0), 0)
    waiting = asyncio.create_task(child.wait())
    child.ping()
    assert child.hangs() == ""  # it is not ready yet, and may be busy
    await child.ready
    assert child.hangs() == ""
    child.ping()
    assert child.hangs() == "no answer for -1 s"
    child.kill("no answer")
    assert await waiting == -signal.SIGKILL
    assert child.hangs() == ""


async def test_one_that_is_not_ready_in_time_hangs_and_says_so_in_the_end(tmp_path: Path) -> None:
    child = await Child.start(spec(tmp_path, "never", start_seconds=-1.0), 0)
    reason = child.hangs()
    assert reason == "not ready after -1 s"
    child.kill(reason)
    await child.wait()
    with pytest.raises(ChildFailed, match="child was ended: not ready after"):
        await child.ready


async def test_one_that_is_not_ready_has_nothing_to_drain(tmp_path: Path) -> None:
    child = await Child.start(spec(tmp_path, "never"), 0)
    child.stop()
    assert await child.wait() == -signal.SIGKILL


def test_statuses_in_words() -> None:
    assert describe(3) == "exit status 3"
    assert describe(-15) == "signal SIGTERM"


async def test_questions_to_a_child(tmp_path: Path) -> None:
    child = await Child.start(spec(tmp_path), 0)
    waiting = asyncio.create_task(child.wait())
    await child.ready
    assert await asyncio.gather(*(child.ask({"double": number}) for number in range(50))) == list(range(0, 100, 2))
    with pytest.raises(NoAnswer, match="a child knows no such thing"):
        await child.ask({"halve": 3})
    with pytest.raises(ChildFailed, match="child ended with exit status 7"):
        await child.ask("die")
    assert await waiting == 7
    assert not child.alive
    with pytest.raises(ChildFailed, match="child has ended"):
        await child.ask({"double": 1})


async def test_a_long_question_arrives_whole(tmp_path: Path) -> None:
    child = await Child.start(spec(tmp_path), 0)
    waiting = asyncio.create_task(child.wait())
    await child.ready
    assert await child.ask({"double": 4, "more": "x" * 3_000_000}) == 8
    child.stop()
    assert await waiting == 0


async def test_questions_of_a_child(tmp_path: Path) -> None:
    async def answer(asked: Any) -> str:
        return f"the answer to {asked}"

    (tmp_path / "events").touch()
    child = await Child.start(spec(tmp_path, "asks", on_question=answer), 0)
    waiting = asyncio.create_task(child.wait())
    await until(lambda: "told the answer to {'name of': 'it'}" in (tmp_path / "events").read_text())
    child.stop()
    assert await waiting == 0


async def test_a_question_that_fails_here_is_answered_all_the_same(tmp_path: Path) -> None:
    async def answer(asked: Any) -> str:
        raise ValueError("a bug")

    (tmp_path / "events").touch()
    for options, heard in (({"on_question": answer}, "internal error"), ({}, "nobody answers questions")):
        child = await Child.start(spec(tmp_path, "asks", **options), 0)
        waiting = asyncio.create_task(child.wait())
        await until(lambda heard=heard: f"told {heard}" in (tmp_path / "events").read_text())  # type: ignore[misc]
        child.kill()
        await waiting


async def test_settings_are_no_arguments_since_all_can_read_those(tmp_path: Path) -> None:
    child = await Child.start(spec(tmp_path / "a-secret"), 3)
    await until(psutil.Process(child.pid).cmdline)  # which is empty while it becomes another program
    assert psutil.Process(child.pid).cmdline()[1:5] == ["-P", "-m", "tests.support.child", "child"]
    assert len(psutil.Process(child.pid).cmdline()) == 6  # with the line's number
    child.kill()
    await child.wait()


async def test_a_child_that_cannot_be_told_its_settings_does_not_wait_for_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def settings(life: int) -> object:
        raise ValueError("a bug")

    child = await Child.start(dataclasses.replace(spec(tmp_path), settings=settings), 0)
    assert await child.wait() == -signal.SIGKILL
    with pytest.raises(ChildFailed, match="child was ended: it could not be told its settings"):
        await child.ready
    assert "a bug" in caplog.text


async def test_what_a_child_writes_past_its_log_becomes_lines_of_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    child = await Child.start(spec(tmp_path, "chatters"), 0)
    await child.ready
    child.stop()
    assert await child.wait() == 0
    found = [record for record in caplog.records if record.name == "bertstream.workers.process.strays"]
    assert {vars(record)["child"] for record in found} == {"child"}
    first, second, *parts, last = [record.getMessage() for record in found]
    assert (first, second, last) == ("on standard output", "[W] by C++ \\xff", "last words")
    assert "".join(parts) == "x" * 100_000
    out, err = capfd.readouterr()
    assert [json.loads(line)["message"] for line in err.splitlines()] == ["a line of the log"]
    assert out == ""


async def test_on_a_terminal_a_child_writes_where_its_supervisor_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logs, "structured", lambda: False)
    child = await Child.start(spec(tmp_path, "chatters"), 0)
    await child.ready
    child.stop()
    assert await child.wait() == 0
    assert not caplog.records
    out, err = capfd.readouterr()
    assert "on standard output\n" in err
    assert "[W] by C++" in err
    assert out == ""


async def test_of_a_flood_of_lines_a_part_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    read, write = os.pipe()
    os.write(write, b"once more\n" * (strays.LINES + 7))
    os.close(write)
    await strays.log_lines(read, "child")
    *lines, last = [record.getMessage() for record in caplog.records]
    assert lines == ["once more"] * strays.LINES
    assert last == "7 more lines were left out"
