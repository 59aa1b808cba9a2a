from __future__ import annotations

from pathlib import Path

import pytest

from bertstream.server.supervisor.roots import find


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("root/team/model", "root/other", "outside/model", "root-too/x"):
        (tmp_path / name).mkdir(parents=True)
    root = tmp_path / "root"
    (root / "file").touch()
    (root / "escape").symlink_to(tmp_path / "outside")
    (root / "inside").symlink_to(root / "team")
    (root / "self").symlink_to(root)
    (root / "sibling").symlink_to(tmp_path / "root-too")
    (root / "loop").symlink_to(root / "loop")
    (root / "broken").symlink_to(root / "none")
    return root


@pytest.mark.parametrize(
    ("source", "found"),
    [("team/model", "team/model"), ("other", "other"), ("./other/", "other"), ("inside/model", "team/model")],
)
def test_what_is_below_a_root_is_found(root: Path, source: str, found: str) -> None:
    assert find([str(root)], source) == root / found


@pytest.mark.parametrize(
    "source",
    [
        *("", ".", "none", "file", "team/none", "loop", "broken", "self"),
        *("..", "../root/other", "team/../other", "../root-too/x", "/etc", "//etc", "~", "a b", "a\0b", "ü"),
        *("escape", "escape/model", "sibling", "sibling/x"),
    ],
)
def test_what_is_not_below_it_is_not(root: Path, source: str) -> None:
    assert find([str(root)], source) is None


def test_an_absolute_path_into_a_root_is_no_name_either(root: Path) -> None:
    assert find([str(root), "/"], str(root / "other")) is None


def test_the_first_root_that_has_it_wins(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside" / "other").mkdir()
    assert find([str(tmp_path / "none"), str(tmp_path / "outside"), str(root)], "other") == tmp_path / "outside/other"
    assert find([str(root), str(tmp_path / "root-too")], "x") == tmp_path / "root-too/x"


def test_a_root_may_be_a_link_itself(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    assert find([str(tmp_path / "link")], "other") == root / "other"
