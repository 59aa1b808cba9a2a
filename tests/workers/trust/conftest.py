from __future__ import annotations

from pathlib import Path

import pytest

from bertstream.workers.trust.seal import PIECE_BYTES, seal

LARGE_BYTES = PIECE_BYTES + 5  # so that it is hashed in two pieces


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """Make a sealed folder: a small file, one of several pieces, and an empty one."""
    folder = tmp_path / "sealed"
    folder.mkdir()
    (folder / "small").write_bytes(b"some content")
    (folder / "large").write_bytes(b"x" * LARGE_BYTES)
    (folder / "empty").touch()
    seal(folder)
    return folder
