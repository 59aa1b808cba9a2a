"""Test whom the folders on the way to a file must belong to."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest

from bertstream.workers.trust.ownership import TrustError, check_way, foreign, make_folder
from tests.support.strangers import STRANGER, as_root


def status(mode: int, owner: int) -> os.stat_result:
    return os.stat_result((mode, 1, 1, 1, owner, 0, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("mode", "owner", "why"),
    [
        (stat.S_IFREG | 0o644, "mine", ""),
        (stat.S_IFREG | 0o644, "root", ""),
        (stat.S_IFDIR | 0o755, "mine", ""),
        (stat.S_IFDIR | 0o700, "root", ""),
        (stat.S_IFLNK | 0o777, "mine", ""),
        (stat.S_IFREG | 0o664, "mine", "may be written to by others (mode 0664)"),
        (stat.S_IFREG | 0o646, "root", "may be written to by others (mode 0646)"),
        (stat.S_IFDIR | 0o1777, "root", "may be written to by others (mode 1777)"),
        (stat.S_IFREG | 0o400, "other", "belongs to the user 54321, not to 1000, who runs this, or to root"),
        (stat.S_IFLNK | 0o777, "other", "belongs to the user 54321, not to 1000, who runs this, or to root"),
    ],
)
def test_who_could_have_written(monkeypatch: pytest.MonkeyPatch, mode: int, owner: str, why: str) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert foreign(status(mode, {"mine": 1000, "root": 0, "other": 54321}[owner])) == why


def test_a_way_of_one_s_own(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a")
    assert check_way(tmp_path / "link" / "b") == tmp_path.resolve() / "a" / "b"


@pytest.mark.parametrize("place", ["", "a", "a/b"])
@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_others_may_write_nowhere_on_the_way(tmp_path: Path, place: str, mode: int) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / place).chmod(mode)
    message = (
        f'{tmp_path / place} may be written to by others (mode {mode:04o}), so nothing in it can be trusted: run "chmod'
    )
    with pytest.raises(TrustError, match=re.escape(message)):
        check_way(tmp_path / "a" / "b")


def test_where_all_may_write_but_only_remove_their_own_the_next_folder_counts(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    tmp_path.chmod(0o1777)
    check_way(tmp_path / "b")
    (tmp_path / "b").chmod(0o777)
    with pytest.raises(TrustError):
        check_way(tmp_path / "b")


@as_root
@pytest.mark.parametrize("mode", [0o755, 0o1777])
def test_another_user_s_folder_on_the_way(tmp_path: Path, mode: int) -> None:
    """The bit that keeps others from removing does not help: the owner may remove."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a").chmod(mode)
    os.chown(tmp_path / "a", STRANGER, -1)
    with pytest.raises(TrustError, match=f"a belongs to the user {STRANGER}.*: choose another folder$"):
        check_way(tmp_path / "a" / "b")


@as_root
def test_a_link_does_not_hide_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a" / "b")
    os.chown(tmp_path / "a", STRANGER, -1)
    with pytest.raises(TrustError, match=f"/a belongs to the user {STRANGER}"):
        check_way(tmp_path / "link")


def test_what_is_made_is_nobody_else_s_to_write(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_folder(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert check_way(tmp_path / "a" / "b") == tmp_path.resolve() / "a" / "b"
    make_folder(tmp_path / "a" / "b")


def test_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "native").symlink_to(tmp_path / "gone")
    with pytest.raises(TrustError, match="native is a symbolic link to nothing: remove it"):
        make_folder(tmp_path / "native" / "models")
