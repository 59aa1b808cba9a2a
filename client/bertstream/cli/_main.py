"""The command line: arguments to a command, and its outcome to an exit code."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from bertstream.cli import (
    _attention,
    _bench,
    _doctor,
    _encode,
    _encode_multi,
    _generate,
    _health,
    _layers,
    _loading,
    _models,
    _server,
    _similarity,
    _summarize,
    _tasks,
    _tokenize,
)
from bertstream.cli._input import refuse_names_of_files
from bertstream.cli._interrupt import INTERRUPTED, check, interruptible
from bertstream.cli._options import UsageError
from bertstream.cli._output import coloured, note, stand_in_for_closed_streams, write_any_text
from bertstream.cli._shell import completion, man
from bertstream.cli._top import command as top

if TYPE_CHECKING:
    from bertstream.client import BertstreamError

GROUPS: dict[str, tuple[Any, ...]] = {
    "the server": (_server, _models, _loading, _health, _doctor, top, _bench),
    "tokens and vectors": (_tokenize, _encode, _encode_multi, _similarity),
    "inside the model": (_layers, _attention),
    "task heads": _tasks.COMMANDS,
    "generation": (_generate, _summarize),
    "the shell": (completion, man),
}
OK, FAILED, USAGE, UNAVAILABLE = 0, 1, 2, 3
RED = 31

EPILOG = """\
examples:
  bertstream serve                                   serve the embedded model on 127.0.0.1:50051
  bertstream serve bert-base-uncased --device auto   serve a checkpoint of the Hugging Face hub, or a directory
  bertstream models                                  what is served, with its limits
  bertstream doctor                                  what this machine and its server lack, and what to do
  bertstream top                                     live numbers of a server with --admin-port
  bertstream tokenize "Hello, Welt!"                 tokens, ids and offsets
  bertstream encode "A text" "Another"               a summary of their vectors
  bertstream encode corpus.parquet --column text -o vectors.parquet
  bertstream similarity "A text" "Another" "A third"
  bertstream layers "A text" --layers 0,6,12 -o layers.npz
  bertstream attention "A text" --layer 3 --head 2   a map of which token attends to which
  bertstream fill-mask "Paris is the [MASK] of France."
  bertstream entities "Angela Merkel met Barack Obama in Berlin."
  bertstream generate "The quick brown" --max-new-tokens 30
  bertstream summarize article.txt --num-beams 4

exit codes:
  0 done, 1 the call failed (health: not serving), 2 wrong usage, 3 no server there or not ready,
  4 files were written, but some of their rows failed, 130 interrupted

See `bertstream COMMAND --help` for the options of a command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, and return its exit code. Errors are printed as one line on standard error."""
    stand_in_for_closed_streams()
    write_any_text()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in _server.COMMANDS:
        return _guarded(lambda: _server.run(arguments[0], arguments[1:]))
    parsed = argparse.Namespace(address="")

    def run() -> int:
        build_parser().parse_args(arguments, parsed)
        refuse_names_of_files(parsed)
        with interruptible():
            code = int(parsed.run(parsed))
            check()
            return code

    return _guarded(run, parsed)


def _guarded(run: Callable[[], int], parsed: argparse.Namespace | None = None) -> int:
    try:
        code = run()
        sys.stdout.flush()
        return code
    except SystemExit:  # of help and of arguments that make no sense, which need no client
        raise
    except KeyboardInterrupt as interrupt:
        _print_notes(interrupt)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has read enough. What is still buffered must not be flushed into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except OSError as error:  # before ValueError, since a FileError is both
        what = error.strerror or error  # without the number of the error
        return _complain(error, FAILED, what if error.filename is None else f"{error.filename}: {what}")
    except (UsageError, ValueError) as error:
        return _complain(error, USAGE)
    except _client_error() as error:  # imported only if an exception gets this far
        return _complain_of_call(error, parsed.address if parsed else "")


def _client_error() -> type[BertstreamError]:
    from bertstream.client import BertstreamError

    return BertstreamError


def _complain_of_call(error: BertstreamError, address: str) -> int:
    from bertstream.client import Unavailable

    told = f"{error}{_next_step(error)}"
    if not isinstance(error, Unavailable):
        return _complain(error, FAILED, told)
    # An error without a reason is gRPC's own, which does not always name the address.
    return _complain(error, UNAVAILABLE, told if error.reason else f"no server at {address}: {told}")


def _next_step(error: BertstreamError) -> str:
    """Return what to do about an error, where the server or the client has not said it already."""
    from bertstream.client import DeadlineExceeded, Unauthenticated, Unavailable

    if isinstance(error, Unavailable) and not error.reason and "refused" in str(error):
        return "; start one with `bertstream serve`, or say --address; `bertstream doctor` tells more"
    if isinstance(error, Unauthenticated):
        return "; give a key by BERTSTREAM_API_KEY or --api-key"
    if isinstance(error, DeadlineExceeded):
        return "; give it longer with --timeout SECONDS, or ask for less at once"
    return ""


def _complain(error: Exception, code: int, told: object = None) -> int:
    line = " ".join(str(error if told is None else told).split())
    print(f"bertstream: {coloured('error:', RED, sys.stderr)} {line}", file=sys.stderr)
    _print_notes(error)
    return code


def _print_notes(error: BaseException) -> None:
    """Print what was noted of an error, such as that a run over files can go on."""
    for line in getattr(error, "__notes__", ()):
        note(f"bertstream: note: {line}")


class _GroupedHelp(argparse.RawDescriptionHelpFormatter):
    """Lists the commands below headings; `headings` maps a command to the heading that goes before it."""

    def __init__(self, headings: Mapping[str, str], prog: str) -> None:
        super().__init__(prog)
        self._action_max_length = len("    next-sentence")  # argparse itself does not count the indent of commands
        self._headings = headings

    def _format_action(self, action: argparse.Action) -> str:
        text, heading = super()._format_action(action), self._headings.get(action.dest)
        return f"\n  {heading}:\n{text}" if heading else text


class _Parser(argparse.ArgumentParser):
    """Prints usage errors as one line."""

    def error(self, message: str) -> NoReturn:
        """Print the error and exit."""
        self.exit(USAGE, f"bertstream: error: {message} (see `{self.prog} --help`)\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse the arguments. One that a command does not know is its own error, not that of all commands."""
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return parsed, unknown


class _Version(argparse.Action):
    """Prints the version, which takes a while to look up, and so is not looked up before."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            found = version("bertstream")
        except PackageNotFoundError:  # run from a source tree
            found = "0"
        print(f"bertstream {found}")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    headings: dict[str, str] = {}
    parser = _Parser(
        prog="bertstream",
        description="Tokenize, encode, ask task heads, generate and stream text through BERT models, over gRPC.",
        epilog=EPILOG,
        formatter_class=partial(_GroupedHelp, headings),
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show program's version number and exit")
    parser.set_defaults(root=parser)  # for the commands that describe all others
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for heading, modules in GROUPS.items():
        before = set(commands.choices)
        for module in modules:
            module.add_to(commands)
        headings[next(name for name in commands.choices if name not in before)] = heading
    return parser
