"""The command line: `bertstream …`. The server is imported only by `serve` and `compile`."""

from __future__ import annotations

from bertstream.cli._main import main

__all__ = ["main"]
