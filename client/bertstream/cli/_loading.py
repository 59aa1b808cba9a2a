"""The commands `bertstream load` and `bertstream unload`."""

from __future__ import annotations

import argparse

from bertstream.cli._models import model_values, models_table
from bertstream.cli._options import Commands, client, command
from bertstream.cli._output import print_json

LOAD_EXAMPLES = """\
examples:
  bertstream load mine my-bert                      my-bert, below one of the server's model roots, under the name mine
  bertstream load mine my-bert --dtype bfloat16     replaces it once the new one is ready; no call fails"""

UNLOAD_EXAMPLES = """\
examples:
  bertstream unload mine    calls under way finish, later ones fail with NOT_FOUND"""

COMPUTE_TYPES = ("float32", "float16", "bfloat16", "int8", "fp8")


def add_to(commands: Commands) -> None:
    """Add both commands."""
    load = command(commands, "load", run_load, "load a model into the server, or replace one", LOAD_EXAMPLES)
    load.add_argument("name", metavar="NAME", help="the name to serve it under")
    load.add_argument("source", metavar="SOURCE", help="a name below a model root of the server, or on the hub")
    load.add_argument("--dtype", choices=COMPUTE_TYPES, help="the type to compute in; int8 on the CPU, fp8 on an H100")
    load.add_argument(
        "--workers", type=int, default=0, metavar="N", help="worker processes (default: the server's choice)"
    )
    load.add_argument(
        "--allow-unsupported-modules",
        action="store_true",
        help="leave out modules that the server cannot run, although vectors then differ from what its authors meant",
    )
    unload = command(commands, "unload", run_unload, "take a model out of service", UNLOAD_EXAMPLES)
    unload.add_argument("name", metavar="NAME", help="the model")


def run_load(arguments: argparse.Namespace) -> int:
    """Load a model, wait until it is served, and print it."""
    with client(arguments) as connection:
        model = connection.load_model(
            arguments.name,
            arguments.source,
            dtype=arguments.dtype,
            workers=arguments.workers,
            allow_unsupported_modules=arguments.allow_unsupported_modules,
            timeout=arguments.timeout,
        )
    if arguments.json:
        print_json(model_values(model), indent=2)
    else:
        print(models_table([model]))
    return 0


def run_unload(arguments: argparse.Namespace) -> int:
    """Unload a model."""
    with client(arguments) as connection:
        connection.unload_model(arguments.name, timeout=arguments.timeout)
    if arguments.json:
        print_json({"unloaded": arguments.name})
    else:
        print(f"{arguments.name} is unloaded")
    return 0
