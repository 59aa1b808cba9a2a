"""The commands `bertstream serve`, `compile`, `keys` and `deploy`, which belong to the server, if that is installed."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

from bertstream.cli._options import Commands, UsageError

COMMANDS = {
    "serve": "serve models",
    "compile": "compile a checkpoint ahead of time",
    "keys": "make, list and remove the keys of callers",
    "deploy": "write the configuration of Ray Serve, and apply it",
}
_ELSEWHERE = {"deploy": "bertstream.ray.serve.command"}  # than in the server's own command line
# What the processes of every server import. transformers and sentencepiece are needed by few checkpoints only, for
# which the server asks for them.
REQUIRED = (
    "torch",
    "tokenizers",
    "safetensors",
    "huggingface_hub",
    "grpc_channelz",
    "grpc_health",
    "grpc_reflection",
    "h11",
    "msgspec",
    "orjson",
    "prometheus_client",
    "rich",
    "starlette",
    "uvicorn",
)
PYTHON = (sys.version_info.major, sys.version_info.minor)
FIRST_PYTHON_WITHOUT_TORCHSCRIPT = (3, 14)
TOO_NEW = (
    "needs Python 3.11 to 3.13, since torch does not support TorchScript, which models are compiled to, from 3.14 on"
)
WHAT_TO_DO = "install 'bertstream[server]' in an environment of such a Python (clients of it may have newer ones)"


def add_to(commands: Commands) -> None:
    """List the commands in the help; the server parses their arguments."""
    for name, summary in COMMANDS.items():
        commands.add_parser(name, help=summary, add_help=False)


def run(name: str, argv: Sequence[str]) -> int:
    """Run the server's own command. An ImportError in it is a bug, and is raised as it is."""
    if PYTHON >= FIRST_PYTHON_WITHOUT_TORCHSCRIPT:
        raise UsageError(f"`bertstream {name}` {TOO_NEW}, and this is {'.'.join(map(str, PYTHON))}: {WHAT_TO_DO}")
    if missing := missing_modules():
        state = "the server is not installed" if len(missing) == len(REQUIRED) else f"there is no {', '.join(missing)}"
        raise UsageError(f"`bertstream {name}` needs the server, but {state}: pip install 'bertstream[server]'")
    return int(getattr(_module_of(name), f"{name}_main")(list(argv)) or 0)


def missing_modules() -> list[str]:
    """Return the modules that the server lacks."""
    return [module for module in REQUIRED if not _is_installed(module)]


def parser_of(name: str) -> argparse.ArgumentParser | None:
    """Return the parser of a command that belongs to the server, or None for others, and where it is not installed."""
    if name not in COMMANDS or missing_modules():
        return None
    parser: argparse.ArgumentParser = _module_of(name).PARSERS[name]()
    return parser


def _module_of(name: str) -> ModuleType:
    return importlib.import_module(_ELSEWHERE.get(name, "bertstream.server.cli"))


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
