"""The command `bertstream health`."""

from __future__ import annotations

import argparse

from bertstream.cli._options import SMALL_SECONDS, Commands, client, command
from bertstream.cli._output import print_json

EXAMPLES = """\
examples:
  bertstream health                     exit code 0 if the server is serving, 1 if not, 3 if there is no server
  bertstream health bertstream.v1.EncodingService
  bertstream health models/NAME         SERVICE_UNKNOWN if no such model is served"""


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = command(commands, "health", run, "ask whether the server is serving", EXAMPLES, seconds=SMALL_SECONDS)
    parser.add_argument(
        "service", nargs="?", default="", metavar="SERVICE", help="a service, or models/NAME (default: all)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the status."""
    with client(arguments) as connection:
        health = connection.health(arguments.service, timeout=arguments.timeout)
    if arguments.json:
        print_json({"status": health.name})
    else:
        print(health.name)
    return 0 if health else 1
