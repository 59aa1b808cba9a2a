"""The file of keys that a server follows, as the command line writes it."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from bertstream.cli import main


class KeyFile:
    """The file of keys that a server follows, changed by the command line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, name: str, *options: str) -> str:
        """Add a key, and return it."""
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            assert main(["keys", "add", name, "--file", str(self.path), *options]) == 0
        return printed.getvalue().strip()

    def write(self, text: str) -> None:
        """Put these contents in place of the file's, at once, so that no server reads half of them."""
        beside = self.path.with_suffix(".new")
        beside.write_text(text)
        beside.chmod(self.path.stat().st_mode & 0o777)
        beside.replace(self.path)

    def remove(self, name: str) -> None:
        assert main(["keys", "remove", name, "--file", str(self.path)]) == 0
