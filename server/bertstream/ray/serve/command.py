"""`bertstream deploy ray`: write the configuration for Ray Serve, and apply it where that is asked for."""

from __future__ import annotations

import argparse
import itertools
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from bertstream.ray.serve.autoscaling import TOKENS_PER_REPLICA
from bertstream.ray.serve.deploying import HTTP_PORT, Scale, document
from bertstream.server import config
from bertstream.server.config import ConfigError
from bertstream.server.embedded import OPTIONS

_EXAMPLES = """examples:
  bertstream deploy ray bert-base-uncased                      print the configuration for `serve deploy`
  bertstream deploy ray bert-base-uncased --cpus 4 --apply     and have the cluster at --address serve it
  bertstream deploy ray a=/models/a b=/models/b --min-replicas 1 --replicas 8 -o serve.yaml

Each model is an application of its own. The options of models are those of `bertstream serve`."""


def deploy_main(argv: Sequence[str]) -> int:
    """Run `bertstream deploy`. Returns the exit code: 0, 1 where Ray did not take it, 2 for wrong usage."""
    try:
        return _deploy(deploy_parser().parse_args(argv))
    except ConfigError as error:
        return _complain(error, 2)
    except OSError as error:
        return _complain(error, 1)


def deploy_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = _Parser(
        "bertstream deploy",
        description="Deploy models on other platforms.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    platforms = parser.add_subparsers(metavar="PLATFORM", required=True)
    ray = platforms.add_parser(
        "ray",
        help="Ray Serve",
        description="Write the configuration by which Ray Serve serves models over gRPC.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_arguments(ray)
    return parser


PARSERS = {"deploy": deploy_parser}


class _Parser(argparse.ArgumentParser):
    """Reports wrong usage in one line."""

    def error(self, message: str) -> NoReturn:
        raise SystemExit(_complain(f"{message} (see `{self.prog} --help`)", 2))


def _complain(error: object, code: int) -> int:
    sys.stderr.write(f"bertstream: error: {error}\n")
    return code


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    config.add_arguments(parser, OPTIONS)
    parser.add_argument("--replicas", type=int, default=1, help="replicas of each model (default 1)")
    parser.add_argument(
        "--min-replicas", type=int, default=0, help="replicas are added up to --replicas by the load, from so many"
    )
    parser.add_argument(
        "--tokens-per-replica",
        type=int,
        default=TOKENS_PER_REPLICA,
        help=f"tokens that may wait in a replica before there are more (default {TOKENS_PER_REPLICA})",
    )
    parser.add_argument("--cpus", type=float, default=1.0, help="cores of each replica (default 1)")
    parser.add_argument("--gpus", type=float, default=0.0, help="GPUs of each replica (default 0)")
    parser.add_argument("--grpc-port", type=int, default=9000, metavar="PORT", help="of Ray's gRPC proxies (9000)")
    parser.add_argument(
        "--http-port",
        type=int,
        default=HTTP_PORT,
        metavar="PORT",
        help=f"of Ray's HTTP proxies, which answer nothing but whether they are well ({HTTP_PORT})",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="where to write it; without this, to standard output")
    parser.add_argument("--apply", action="store_true", help="have a running cluster serve it, by `serve deploy`")
    parser.add_argument(
        "--address", default="http://localhost:8265", help="of the cluster's dashboard (default http://localhost:8265)"
    )


def _deploy(parsed: argparse.Namespace) -> int:
    scale = Scale(parsed.replicas, parsed.min_replicas, parsed.cpus, parsed.gpus, parsed.tokens_per_replica)
    chosen = config.load(parsed, {})  # variables are for servers of this machine
    text = as_text(document(chosen, scale, parsed.grpc_port, parsed.http_port))
    if parsed.apply and find_spec("ray") is None:
        raise ConfigError("--apply needs Ray: pip install 'bertstream[ray]'")
    if parsed.output:
        Path(parsed.output).write_text(text, encoding="utf-8")
    elif not parsed.apply:
        sys.stdout.write(text)
    return _apply(text, parsed.address) if parsed.apply else 0


def as_text(deployed: object) -> str:
    """Return a configuration as JSON, which is YAML, too."""
    return json.dumps(deployed, indent=2) + "\n"


def _apply(text: str, address: str) -> int:
    """Have Ray's own command send the configuration, and say what is wrong where it fails."""
    with tempfile.NamedTemporaryFile("w", prefix="bertstream-", suffix=".yaml", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        command = [sys.executable, "-m", "ray.serve.scripts", "deploy", "--address", address, file.name]
        sent = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
    if sent.returncode:
        return _complain(f"Ray did not take the configuration: {what_failed(sent.stderr)}", 1)
    sys.stderr.write(sent.stderr)
    return 0


def what_failed(said: str) -> str:
    """Return the message of the exception that ended a program of Python, or all that it said if there is none."""
    _, traceback, after = said.rpartition("Traceback (most recent call last):\n")
    if not traceback:
        return said.strip()
    lines = itertools.dropwhile(lambda line: line.startswith(" "), after.strip("\n").splitlines())
    return re.sub(r"\A[\w.]+: ", "", "\n".join(lines))
