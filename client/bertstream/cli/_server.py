"""`bertstream serve` and `bertstream compile`: handed on to the server, where that is installed."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from bertstream.cli._options import Commands, UsageError

COMMANDS = {"serve": "serve models", "compile": "compile a checkpoint ahead of time"}


def add_to(commands: Commands) -> None:
    """Lists the commands in the help; their own arguments are the server's business."""
    for name, summary in COMMANDS.items():
        commands.add_parser(name, help=summary, add_help=False)


def run(name: str, argv: Sequence[str]) -> int:
    """Runs the server's own command."""
    try:
        module = importlib.import_module("bertstream.server.cli")
    except ModuleNotFoundError as error:
        message = (
            f"`bertstream {name}` needs the server, but there is no {error.name}: pip install 'bertstream[server]'"
        )
        raise UsageError(message) from None
    return int(getattr(module, f"{name}_main")(list(argv)) or 0)
