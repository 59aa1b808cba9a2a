"""The server's half of the command line: `bertstream serve`, `bertstream compile` and `bertstream keys`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from typing import NoReturn

from bertstream.server import config, variables
from bertstream.server.keys import command as keys_command
from bertstream.server.supervisor import app
from bertstream.server.supervisor.compilation import compile_models
from bertstream.server.supervisor.hosting import compile_task
from bertstream.server.supervisor.progress import ProgressDisplay
from bertstream.server.supervisor.sources import chosen_models
from bertstream.workers.native.processor import ProcessorError
from bertstream.workers.process import logs
from bertstream.workers.programs.description import DescriptionError
from bertstream.workers.trust.ownership import TrustError

log = logging.getLogger(__name__)

_EXAMPLES = """examples:
  bertstream serve                                    the embedded all-MiniLM-L6-v2
  bertstream serve bert-base-uncased roberta-base     two models from the Hugging Face hub
  bertstream serve mine=/models/my-bert --port 8033   a checkpoint directory, under a name

Every option can also stand in a TOML file (--config) and in a BERTSTREAM_* variable, such as BERTSTREAM_PORT.
A flag wins over a variable, and a variable over the file."""


_COMPILE_EXAMPLES = """examples:
  bertstream compile bert-base-uncased                a model of the Hugging Face hub, so that serving it starts at once
  bertstream compile mine=/models/my-bert --dtype int8 --cache /srv/cache"""


def serve_parser() -> argparse.ArgumentParser:
    """Return the parser of `bertstream serve`."""
    parser = _ServerParser(
        "bertstream serve",
        description="Serve BERT-family encoders over gRPC.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    config.add_arguments(parser)
    return parser


def compile_parser() -> argparse.ArgumentParser:
    """Return the parser of `bertstream compile`."""
    parser = _ServerParser(
        "bertstream compile",
        description="Compile checkpoints into the cache, so that serving starts at once.",
        epilog=_COMPILE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    config.add_arguments(
        parser, ("models", "device", "dtype", "task", "allow_unsupported_modules", "cache", "log_level")
    )
    return parser


def serve_main(argv: Sequence[str]) -> int:
    """Run `bertstream serve`.

    Returns the exit code: 0 after a drain, 1 when it could not start, 2 for wrong usage.
    """
    logs.setup("supervisor")
    parser = serve_parser()

    def run() -> int:
        chosen = config.load(parser.parse_args(argv))
        logs.setup("supervisor", chosen.log_level)
        _warn_of_variables()
        app.serve(chosen)
        return 0

    return _exit_code(run)


def compile_main(argv: Sequence[str]) -> int:
    """Run `bertstream compile`, which prints each model's compiled directory. Returns exit codes as serve_main does."""
    logs.setup("compile")
    parser = compile_parser()

    def run() -> int:
        chosen = config.load(parser.parse_args(argv))
        logs.setup("compile", chosen.log_level)
        _warn_of_variables()
        choices = chosen_models(chosen)
        with ProgressDisplay() as display:
            compiled = asyncio.run(compile_models(compile_task(chosen, choices), display))
        if compiled is None:
            return 130
        for choice, model in zip(choices, compiled.models, strict=True):
            print(f"{choice.name}\t{model.directory}")
        return 0

    return _exit_code(run)


def keys_main(argv: Sequence[str]) -> int:
    """Run `bertstream keys`. Returns the exit code."""
    return keys_command.main(argv)


PARSERS: dict[str, Callable[[], argparse.ArgumentParser]] = {
    "serve": serve_parser,
    "compile": compile_parser,
    "keys": keys_command.keys_parser,
}
"""The parsers of the commands, for those who describe them."""


class _ServerParser(argparse.ArgumentParser):
    """Reports wrong usage in the form of all other errors that keep a server from starting."""

    def error(self, message: str) -> NoReturn:
        app.fail(f"{message} (see `{self.prog} --help`)")
        raise SystemExit(2)


def _warn_of_variables() -> None:
    for warning in variables.warnings_of(os.environ):
        log.warning("%s", warning)


def _exit_code(run: Callable[[], int]) -> int:
    try:
        return run()
    except (config.ConfigError, ProcessorError) as error:
        app.fail(error)
        return 2
    except BrokenPipeError:  # the reader of standard output has gone; the caller of this function handles that
        raise
    except (app.ChildFailed, DescriptionError, TrustError, OSError) as error:
        return app.fail(error)
