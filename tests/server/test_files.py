"""What the server reads of what people give it: regular files that are not too large."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bertstream.server.files import MOST_BYTES, read_regular


def refused(path: Path) -> str:
    with pytest.raises(OSError) as raised:  # noqa: PT011 - what it says is looked at
        read_regular(path)
    return str(raised.value.strerror)


def test_a_file_and_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a" * MOST_BYTES)
    path.chmod(0o640)
    (tmp_path / "link").symlink_to(path)
    for each in (path, tmp_path / "link"):
        data, mode = read_regular(each)
        assert (len(data), mode & 0o777) == (MOST_BYTES, 0o640)


def test_one_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert refused(path) == "it has more than 4,194,304 bytes"


def test_what_would_never_end_or_never_begin_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for name in ("pipe", "link"):
        assert refused(tmp_path / name) == "it is not a regular file"


def test_what_is_not_there_or_a_folder(tmp_path: Path) -> None:
    assert refused(tmp_path) == "Is a directory"
    assert refused(tmp_path / "none") == "No such file or directory"
