"""How the tests are divided among several processes."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support import sharing
from tests.support.imports import ROOT


@pytest.mark.parametrize("path", [*sharing.SERVERS, *sharing.OTHER_APIS, *sharing.LONG[1:]])
def test_every_path_is_there(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize(
    ("nodeid", "group"),
    [
        ("tests/workers/test_ipc.py::test_a[b::c/d-1]", "tests/workers/test_ipc.py"),
        ("tests/workers/test_ipc.py::TestA::test_b", "tests/workers/test_ipc.py"),
        ("tests/e2e/test_bulk.py::test_a", "servers"),
        ("tests/test_examples.py::test_a", "servers"),
        ("tests/e2e/page/test_page.py::test_a", "servers"),
        ("tests/e2e/test_tei.py::test_a", "other apis"),
        ("tests/e2e/test_http_tasks.py::test_a", "other apis"),
        ("tests/e2e/test_tasks.py::test_a", "tests/e2e/test_tasks.py"),
    ],
)
def test_a_file_stays_whole_and_what_shares_servers_stays_together(nodeid: str, group: str) -> None:
    assert sharing.group_of(nodeid) == group


def test_whoever_shares_servers_must_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "tests/e2e/test_bulk.py::test_a (setup)")
    sharing.check_shares_servers()
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "tests/e2e/test_new.py::test_a (setup)")
    with pytest.raises(AssertionError, match=r"tests/e2e/test_new\.py is missing from SERVERS"):
        sharing.check_shares_servers()


def test_the_first_test_of_a_shared_server_may_take_longer() -> None:
    class Item:
        def __init__(self, *fixtures: str, skipped: bool = False) -> None:
            self.fixturenames, self.marks = fixtures, [pytest.mark.skipif(skipped, reason="missing").mark]

        def iter_markers(self, name: str) -> list[pytest.Mark]:
            return [mark for mark in self.marks if mark.name == name]

        def add_marker(self, mark: pytest.MarkDecorator) -> None:
            self.marks.append(mark.mark)

    items = [Item("documented_server", skipped=True), Item("tmp_path"), Item("server", "documented_server")]
    items += [Item("documented_server"), Item("other_apis"), Item("other_apis", "server")]
    sharing.give_time_to_start(items)  # type: ignore[arg-type]
    seconds = [[mark.args[0] for mark in item.iter_markers("timeout")] for item in items]
    assert seconds == [[], [], [sharing.STARTING_SECONDS], [], [sharing.STARTING_SECONDS], []]


def test_what_is_shared_is_made_by_the_first_who_asks(tmp_path: Path) -> None:
    made: list[Path] = []

    def make(folder: Path) -> None:
        made.append(folder)
        folder.mkdir()

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: sharing.made_once(tmp_path / "shared" / "it", make), range(8)))
    assert found == [tmp_path / "shared" / "it"] * 8
    assert found[0].is_dir()
    assert len(made) == 1


def test_what_cannot_be_made_is_tried_again(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        folder.mkdir()
        raise ValueError("on the way")

    with pytest.raises(ValueError, match="on the way"):
        sharing.made_once(tmp_path / "it", fail)
    assert not (tmp_path / "it").exists()
    assert sharing.made_once(tmp_path / "it", Path.mkdir).is_dir()


def test_the_processes_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "cores", lambda: 7)
    monkeypatch.setenv("OMP_NUM_THREADS", "")  # and it is taken back, whatever comes
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert 1 <= sharing.processes() <= 4
    sharing.share_cores(3)
    assert os.environ["OMP_NUM_THREADS"] == "2"


def test_no_example_must_be_quick() -> None:
    assert settings().deadline is None
