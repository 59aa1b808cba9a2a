"""The command line, `bertstream …`. Only `serve` and `compile` import the server."""

from __future__ import annotations

from bertstream.cli._main import main

__all__ = ["main"]
