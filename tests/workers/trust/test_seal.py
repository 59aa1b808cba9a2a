"""Test a sealed folder: whatever is changed, cut, missing, additional, a link or another's is found, and named."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bertstream.workers.trust.ownership import TrustError
from bertstream.workers.trust.seal import MANIFEST, PIECE_BYTES, Sealed, SealError, seal
from tests.support.strangers import STRANGER, as_root
from tests.workers.trust.conftest import LARGE_BYTES


def flip(path: Path, at: int = -1) -> None:
    """Flip one bit."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def list_files(manifest: Path, said: bytes) -> None:
    """Write a list whose own hash is right."""
    manifest.write_bytes(said + b"\n" + hashlib.sha256(said).hexdigest().encode() + b"\n")


def checked(folder: Path) -> None:
    with Sealed.open(folder) as found:
        found.check()


def test_what_was_sealed_is_read(sealed: Path) -> None:
    with Sealed.open(sealed) as found:
        found.check()
        assert set(found.names) == {"small", "large", "empty"}
        assert (found.read("small"), found.read("empty"), len(found.read("large"))) == (
            b"some content",
            b"",
            LARGE_BYTES,
        )
        with found.open_file("small") as file:
            assert (file.read(), file.name) == (b"some content", str(sealed / "small"))


def test_the_manifest_tells_of_each_file(sealed: Path) -> None:
    manifest = json.loads((sealed / MANIFEST).read_text().splitlines()[0])
    assert manifest["format"] == 1
    assert {name: (each["bytes"], len(each["sha256"])) for name, each in manifest["files"].items()} == {
        "small": (12, 1),
        "large": (LARGE_BYTES, 2),
        "empty": (0, 1),
    }


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o077])
def test_nobody_else_may_write_to_what_is_sealed(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        (tmp_path / "file").touch()
        tmp_path.chmod(0o777)
        seal(tmp_path)
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path, *tmp_path.iterdir())}
    assert modes == {0o755, 0o644}


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("small", flip, "has other content than was written (its SHA-256 differs)"),
        ("large", lambda path: flip(path, 0), "has other content than was written"),
        ("large", lambda path: flip(path, PIECE_BYTES), "has other content than was written"),
        ("large", flip, "has other content than was written"),
        ("small", cut, "has 11 bytes, and was written with 12"),
        ("small", lambda path: path.write_bytes(b"some content, and more"), "has 22 bytes, and was written with 12"),
        ("large", cut, f"has {LARGE_BYTES - 1:,} bytes, and was written with {LARGE_BYTES:,}"),
        ("empty", lambda path: path.write_bytes(b"x"), "has 1 bytes, and was written with 0"),
        ("small", Path.unlink, "is missing"),
        (MANIFEST, Path.unlink, "is missing"),
        (MANIFEST, cut, "is damaged"),
        (MANIFEST, lambda path: list_files(path, b"[" * 100_000), "is damaged"),
        (MANIFEST, lambda path: list_files(path, b'{"format": 2, "files": {}}'), "is damaged"),
        (MANIFEST, lambda path: list_files(path, b'{"format": 1, "files": {"small": {}}}'), "is damaged"),
        (MANIFEST, lambda path: list_files(path, b'{"format": 1, "files": 5}'), "is damaged"),
        (MANIFEST, lambda path: path.write_bytes(b""), "is damaged"),
        ("planted.so", Path.touch, "was not written with the rest"),
        ("planted", Path.mkdir, "was not written with the rest"),
        (".hidden", Path.touch, "was not written with the rest"),
        ("small", lambda path: path.chmod(0o666), "may be written to by others (mode 0666)"),
        ("small", lambda path: path.chmod(0o664), "may be written to by others (mode 0664)"),
        (MANIFEST, lambda path: path.chmod(0o666), "may be written to by others (mode 0666)"),
    ],
)
def test_what_is_wrong_is_named(sealed: Path, name: str, damage: Callable[[Path], object], message: str) -> None:
    damage(sealed / name)
    with pytest.raises(SealError, match=re.escape(f"{sealed / name} {message}")) as raised:
        checked(sealed)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["small", MANIFEST])
def test_each_byte_counts(sealed: Path, name: str) -> None:
    for at in range((sealed / name).stat().st_size):
        flip(sealed / name, at)
        with pytest.raises(SealError):
            checked(sealed)
        flip(sealed / name, at)
    checked(sealed)


@pytest.mark.parametrize("name", ["small", MANIFEST])
def test_links_are_not_followed(sealed: Path, tmp_path: Path, name: str) -> None:
    (sealed / name).rename(tmp_path / "elsewhere")
    (sealed / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SealError, match=re.escape(f"{sealed / name} is a symbolic link")):
        checked(sealed)


def test_a_folder_that_is_a_link_is_not_followed(sealed: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(sealed)
    with pytest.raises(SealError, match="link is not a folder that can be read"):
        Sealed.open(tmp_path / "link")


def test_links_on_the_way_to_it_are_followed(sealed: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    checked(tmp_path / "link" / sealed.name)


def test_a_pipe_is_no_file(sealed: Path) -> None:
    """Nobody waits for its other end."""
    (sealed / "small").unlink()
    os.mkfifo(sealed / "small", 0o600)
    with pytest.raises(SealError, match="small is not a regular file"):
        checked(sealed)


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
def test_a_folder_where_others_may_write(sealed: Path, mode: int) -> None:
    sealed.chmod(mode)
    with pytest.raises(SealError, match=rf"sealed may be written to by others \(mode {mode:04o}\)"):
        Sealed.open(sealed)


@as_root
@pytest.mark.parametrize("name", ["", "small", MANIFEST])
def test_what_belongs_to_another_user(sealed: Path, name: str) -> None:
    os.chown(sealed / name, STRANGER, -1)
    with pytest.raises(SealError, match=f"belongs to the user {STRANGER}, not to 0"):
        checked(sealed)


def test_a_folder_below_one_where_others_may_write(sealed: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(TrustError, match=f'nothing in it can be trusted: run "chmod go-w {tmp_path}"'):
        Sealed.open(sealed)


def test_a_known_file_is_hashed_again_once_it_was_written_to(sealed: Path) -> None:
    """A bit that flipped on the disk by itself is missed with `known`, and found without."""
    status = (sealed / "large").stat()
    with Sealed.open(sealed) as found:
        found.open_file("large", known=True).close()
        flip(sealed / "large")
        while (sealed / "large").stat().st_mtime_ns == status.st_mtime_ns:
            (sealed / "large").touch()  # file systems' clocks tick each few milliseconds
        with pytest.raises(SealError, match="its SHA-256 differs"):
            found.open_file("large", known=True)
        os.utime(sealed / "large", ns=(status.st_atime_ns, status.st_mtime_ns))
        found.open_file("large", known=True).close()
        with pytest.raises(SealError, match="its SHA-256 differs"):
            found.check()


def test_a_copy_is_as_good(sealed: Path, tmp_path: Path) -> None:
    """It is sound though all its times are new."""
    copy = tmp_path / "copy"
    copy.mkdir(mode=0o755)
    for path in sealed.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    checked(copy)
    with Sealed.open(copy) as found:
        found.open_file("large", known=True).close()


def open_below(folder: Path) -> list[str]:
    """Return what this process has open of a folder; other threads may open and close other files meanwhile."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed already
            found.append(descriptor.readlink())
    return [str(path) for path in found if path.is_relative_to(folder)]


def test_no_descriptor_is_left_open(sealed: Path) -> None:
    with Sealed.open(sealed):
        assert open_below(sealed) == [str(sealed)]
    checked(sealed)
    flip(sealed / "small")
    with pytest.raises(SealError):
        checked(sealed)
    with Sealed.open(sealed) as found, pytest.raises(SealError):
        found.read("small")
    (sealed / MANIFEST).unlink()
    with pytest.raises(SealError):
        Sealed.open(sealed)
    assert open_below(sealed) == []


def test_a_file_that_is_cut_while_it_is_hashed_ends_nothing(sealed: Path) -> None:
    """If the file were mapped, the process would get a SIGBUS."""
    begun, ended = threading.Event(), threading.Event()

    def keep_cutting() -> None:
        while not ended.is_set():
            os.truncate(sealed / "large", 1000)
            os.truncate(sealed / "large", LARGE_BYTES)
            begun.set()

    cutting = threading.Thread(target=keep_cutting)
    cutting.start()
    try:
        assert begun.wait(60)  # or all may be hashed before it is cut for the first time
        with pytest.raises(SealError):
            checked(sealed)
    finally:
        ended.set()
        cutting.join()


def test_without_torch(sealed: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from bertstream.workers.trust.seal import Sealed\n"
        "Sealed.open(Path(sys.argv[1])).check(); assert not {'torch', 'numpy', 'grpc'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(sealed)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
