"""The folder of sockets is one server's alone, and none stays for good."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from bertstream.server.config import ConfigError
from bertstream.server.supervisor.folders import private_folder

DIES = """
import os, signal
from bertstream.server.supervisor.folders import private_folder
with private_folder() as folder:
    (folder / "0-0.socket").touch()
    print(folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder for temporary files, whose path is short, as those of sockets must be."""
    made = tmp_path_factory.mktemp("t")
    monkeypatch.setattr(tempfile, "tempdir", str(made))
    monkeypatch.setenv("TMPDIR", str(made))
    return made


def left(place: Path) -> Path:
    """Return a folder that a killed server has just left."""
    done = subprocess.run([sys.executable, "-c", DIES], stdout=subprocess.PIPE, text=True, check=False)
    folder = Path(done.stdout.strip())
    assert folder.parent == place
    return folder


def age(folder: Path) -> None:
    """Have a folder be made two minutes earlier."""
    before = folder.stat().st_mtime - 120
    os.utime(folder, (before, before))


def test_it_is_for_its_owner_alone_and_removed_at_the_end(place: Path) -> None:
    with private_folder() as folder:
        assert folder.parent == place
        assert folder.stat().st_mode & 0o777 == 0o700
    assert list(place.iterdir()) == []


def test_what_a_killed_server_left_is_removed_by_the_next(place: Path) -> None:
    folder = left(place)
    age(folder)
    with private_folder():
        assert not folder.exists()


def test_what_a_living_server_has_stays(place: Path) -> None:
    with private_folder() as folder:
        age(folder)
        with private_folder():
            assert folder.exists()


def test_what_is_not_known_to_be_a_servers_stays(place: Path, tmp_path: Path) -> None:
    """A folder without a lock, one that has just been made, one that others may write to, and links."""
    unlocked, new, open_to_all = place / "bertstream-unlocked", left(place), left(place)
    elsewhere = left(place).rename(tmp_path / "elsewhere")
    unlocked.mkdir(0o700)
    open_to_all.chmod(0o777)
    for folder in (unlocked, open_to_all, elsewhere):
        age(folder)
    (place / "bertstream-link").symlink_to(elsewhere)
    (place / "bertstream-file").touch()
    before = {new, unlocked, open_to_all, place / "bertstream-link", place / "bertstream-file"}
    with private_folder() as own:
        assert set(place.iterdir()) == before | {own}
    assert (elsewhere / "0-0.socket").exists()


def test_a_path_that_is_too_long_for_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / ("a" * 120)
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    with pytest.raises(ConfigError) as raised, private_folder():
        pass
    excess = len(str(place)) + len("/bertstream-12345678/frontend-255.socket") - 107
    assert str(raised.value) == (
        f"the folder for sockets (TMPDIR): {place} is too long for the paths of Unix sockets, by {excess} bytes: "
        "choose another"
    )
    assert list(place.iterdir()) == []
