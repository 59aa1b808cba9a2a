"""`bertstream serve`, `bertstream compile` and `bertstream keys`: handed on to the server, where that is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from bertstream.cli._options import Commands, UsageError

COMMANDS = {
    "serve": "serve models",
    "compile": "compile a checkpoint ahead of time",
    "keys": "make, list and remove the keys of callers",
}
# What every server imports, some in one of its processes, some in another. transformers and sentencepiece are not
# among them: few checkpoints need those, and say so.
REQUIRED = ("torch", "tokenizers", "safetensors", "huggingface_hub", "grpc_health", "grpc_reflection", "rich")


def add_to(commands: Commands) -> None:
    """Lists the commands in the help; their own arguments are the server's business."""
    for name, summary in COMMANDS.items():
        commands.add_parser(name, help=summary, add_help=False)


def run(name: str, argv: Sequence[str]) -> int:
    """Runs the server's own command. An ImportError in it is a bug, and not told as anything else."""
    if missing := [module for module in REQUIRED if not _is_there(module)]:
        state = "the server is not installed" if len(missing) == len(REQUIRED) else f"there is no {', '.join(missing)}"
        raise UsageError(f"`bertstream {name}` needs the server, but {state}: pip install 'bertstream[server]'")
    module = importlib.import_module("bertstream.server.cli")
    return int(getattr(module, f"{name}_main")(list(argv)) or 0)


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
