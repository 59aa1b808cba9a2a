"""Test that sealed folders appear whole, and that what is there instead is put aside, within bounds."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import pytest

from bertstream.workers.trust import store
from bertstream.workers.trust.ownership import TrustError
from bertstream.workers.trust.seal import Sealed
from tests.support.strangers import STRANGER, as_root


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "store" / "name"


def make(place: Path, content: bytes = b"content") -> None:
    with store.new(place) as folder:
        (folder / "file").write_bytes(content)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_folder_appears_whole(place: Path) -> None:
    assert not store.is_sound(place)
    with store.new(place) as folder:
        (folder / "file").write_bytes(b"content")
        assert not place.exists()
    assert store.is_sound(place)
    assert names(place.parent) == {"name"}
    with Sealed.open(place) as found:
        assert found.read("file") == b"content"


def test_what_fails_leaves_nothing(place: Path) -> None:
    with pytest.raises(ValueError, match="half-way"), store.new(place):
        raise ValueError("half-way")
    assert names(place.parent) == set()


def test_the_first_of_two_stays(place: Path) -> None:
    with store.new(place) as folder:
        (folder / "file").write_bytes(b"mine")
        make(place, b"theirs")
    with Sealed.open(place) as found:
        assert found.read("file") == b"theirs"
    assert names(place.parent) == {"name"}


def test_what_is_unsound_is_put_aside_with_one_line_of_the_log(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(place)
    (place / "file").write_bytes(b"changed")
    assert not store.is_sound(place)
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (
        logging.WARNING,
        f"{place / 'file'} has other content than was written (its SHA-256 differs); it is not used but put aside as "
        ".aside.name, and made anew",
    )
    assert names(place.parent) == {".aside.name"}
    make(place)
    assert store.is_sound(place)
    assert (place.parent / ".aside.name" / "file").read_bytes() == b"changed"


def test_one_of_each_name_is_kept_aside_for_an_hour(place: Path) -> None:
    for content in (b"first", b"second"):
        make(place)
        old = time.time() - 10 * store.ABANDONED_SECONDS
        (place / "file").write_bytes(content)
        os.utime(place, (old, old))  # it was made long ago, and is kept all the same
        assert not store.is_sound(place)
        make(place.with_name("other" + content.decode()))
    assert names(place.parent) == {".aside.name", "otherfirst", "othersecond"}
    assert (place.parent / ".aside.name" / "file").read_bytes() == b"second"
    old = time.time() - 2 * store.ABANDONED_SECONDS
    os.utime(place.parent / ".aside.name", (old, old))
    make(place)
    assert names(place.parent) == {"name", "otherfirst", "othersecond"}


@pytest.mark.parametrize("kind", ["file", "link", "dangling", "empty"])
def test_whatever_is_in_its_place_is_put_aside(place: Path, tmp_path: Path, kind: str) -> None:
    place.parent.mkdir()
    make(tmp_path / "elsewhere")
    for _ in range(2):  # what is aside already makes room, whatever it is
        match kind:
            case "file":
                place.touch()
            case "link":
                place.symlink_to(tmp_path / "elsewhere")
            case "dangling":
                place.symlink_to(tmp_path / "nowhere")
            case _:
                place.mkdir()
        assert not store.is_sound(place)
        assert names(place.parent) == {".aside.name"}
    assert store.is_sound(tmp_path / "elsewhere")
    make(place)
    assert store.is_sound(place)


@as_root
def test_another_user_s_folder_is_put_aside(place: Path) -> None:
    make(place)
    for path in (place, *place.iterdir()):
        os.chown(path, STRANGER, -1)
    assert not store.is_sound(place)
    assert names(place.parent) == {".aside.name"}


def test_nothing_is_done_where_others_may_write(place: Path) -> None:
    make(place)
    place.parent.chmod(0o777)
    with pytest.raises(TrustError, match="chmod go-w"):
        store.is_sound(place)
    with pytest.raises(TrustError, match="chmod go-w"):
        make(place.with_name("other"))
    assert names(place.parent) == {"name"}


def test_what_cannot_be_put_aside_is_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(place)
    (place / "file").unlink()

    def refuse(self: Path, target: Path) -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(
        TrustError, match=rf"file is missing, and it cannot be put aside \(Permission denied\): remove {place}"
    ):
        store.is_sound(place)


def test_whoever_comes_second_to_put_it_aside_goes_on(place: Path) -> None:
    place.parent.mkdir()
    store.put_aside(place, "it is gone")
    assert names(place.parent) == set()
