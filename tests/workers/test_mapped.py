"""Files that processes map have all of their blocks from the start."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bertstream.server.core.quotas import SharedCounts
from bertstream.workers.mapped import map_file, reserve
from bertstream.workers.serving import cores
from bertstream.workers.serving.running_record import RunningRecord

SIZE = 3 << 20


def failing(number: int) -> Callable[..., None]:
    def fails(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    return fails


def has_all_blocks(path: Path) -> bool:
    found = path.stat()
    return found.st_size > 0 and found.st_blocks * 512 >= found.st_size


@pytest.mark.parametrize("make", [RunningRecord, cores.make, SharedCounts], ids=["running", "cores", "counts"])
def test_each_file_that_is_mapped_has_its_blocks(tmp_path: Path, make: Callable[[Path], object]) -> None:
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.truncate(SIZE)
    if has_all_blocks(sparse):
        pytest.skip("this file system does not leave out blocks")
    made = make(tmp_path / "made")
    assert has_all_blocks(tmp_path / "made")
    del made


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL])
def test_where_blocks_cannot_be_reserved_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "posix_fallocate", failing(number))
    mapped = map_file(tmp_path / "made", SIZE + 5)
    assert mapped[:] == bytes(SIZE + 5)
    assert has_all_blocks(tmp_path / "made")


def test_where_there_is_no_such_function_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fallocate")
    map_file(tmp_path / "made", SIZE).close()
    assert has_all_blocks(tmp_path / "made")


def test_what_another_process_has_counted_stays(tmp_path: Path) -> None:
    path = tmp_path / "made"
    path.write_bytes(b"counted")
    with path.open("rb+") as file:
        reserve(file.fileno(), 10, path)
        reserve(file.fileno(), 10, path)
    assert path.read_bytes() == b"counted\0\0\0"


def test_no_room_is_told_with_the_folder_and_the_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "posix_fallocate", failing(errno.ENOSPC))
    with pytest.raises(OSError, match="no room") as raised:
        map_file(tmp_path / "made", SIZE)
    assert (
        str(raised.value) == f"{tmp_path}, below TMPDIR, has no room for 3,145,728 bytes more (No space left on device)"
    )
