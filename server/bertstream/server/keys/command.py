"""`bertstream keys`: makes, lists and removes keys."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from bertstream.server.keys import editing
from bertstream.server.keys.file import KeysError, KeyTable, checked

_EXAMPLES = """examples:
  bertstream keys add search --file keys.toml         prints the key, once
  bertstream keys add batch --file keys.toml --tokens-per-second 20000 --concurrent 8 --models mine,other
  bertstream keys add ops --role admin --file keys.toml
  bertstream keys add ingest --subject CN=ingest.example.com --file keys.toml
  bertstream keys list --file keys.toml
  bertstream keys remove search --file keys.toml

The file has hashes alone. A server that was started with --keys-file FILE follows it, without a restart."""
_VARIABLE = "BERTSTREAM_KEYS_FILE"


def main(argv: Sequence[str], environment: Mapping[str, str] = os.environ) -> int:
    """Run `bertstream keys`; return the exit code: 0, 1 where the file cannot be used, 2 for wrong usage."""
    try:
        _run(keys_parser().parse_args(argv), environment)
    except _WrongUsage as error:
        return _complain(error, 2)
    except KeysError as error:
        return _complain(error, 1)
    return 0


def keys_parser() -> argparse.ArgumentParser:
    """Return the parser of `bertstream keys`."""
    parser = _KeysParser(
        "bertstream keys",
        description="Make, list and remove the keys that callers of a server show (its --keys-file).",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_arguments(parser)
    return parser


class _WrongUsage(Exception):
    """The command line makes no sense; the message says why."""


class _KeysParser(argparse.ArgumentParser):
    """Reports wrong usage in one line."""

    def error(self, message: str) -> NoReturn:
        raise SystemExit(_complain(f"{message} (see `{self.prog} --help`)", 2))


def _complain(error: object, code: int) -> int:
    print(f"bertstream: error: {error}", file=sys.stderr)
    return code


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the commands below `keys`, each with its own arguments."""
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    add = commands.add_parser("add", help="make a key, print it, and put its hash into the file")
    add.add_argument("name", metavar="NAME", help="who will use it: 1 to 64 letters, digits and . _ @ -")
    add.add_argument(
        "--subject", help="CN=NAME or SAN=NAME: no key, but the clients whose certificate has this name (mutual TLS)"
    )
    add.add_argument("--role", choices=("use", "admin"), help="admin may load and unload models, too (default use)")
    add.add_argument(
        "--tokens-per-second", type=float, metavar="N", help="tokens that models may compute for it (default no bound)"
    )
    add.add_argument("--concurrent", type=int, metavar="N", help="calls under way at once (default no bound)")
    add.add_argument("--models", metavar="NAMES", help="models that it may use, with commas between (default all)")
    add.add_argument("--weight", type=float, metavar="W", help="its share beside others (default 1)")
    listing = commands.add_parser("list", help="show the keys: names and bounds, no hashes")
    remove = commands.add_parser("remove", help="remove a key; servers refuse it within seconds")
    remove.add_argument("name", metavar="NAME", help="the key's name")
    for command in (add, listing, remove):
        command.add_argument("--file", metavar="FILE", help=f"the file of keys (default ${_VARIABLE})")


def _run(arguments: argparse.Namespace, environment: Mapping[str, str]) -> None:
    given = arguments.file or environment.get(_VARIABLE)
    if not given:
        raise _WrongUsage(f"say which file of keys: --file FILE, or ${_VARIABLE}")
    path = Path(given).expanduser()
    match arguments.command:
        case "add":
            _add(path, arguments)
        case "remove":
            editing.remove(path, arguments.name)
            print(f"{arguments.name} is no key any more in {path}", file=sys.stderr)
        case _:
            _list(path)


def _add(path: Path, arguments: argparse.Namespace) -> None:
    key = "" if arguments.subject else editing.new_key()
    editing.add(path, _table(arguments, key))
    if key:
        print(key, flush=True)
        message = "this is the key, which nobody can show again; clients take it from BERTSTREAM_API_KEY"
    else:
        message = f"clients whose certificate has {arguments.subject} are known by it"
    print(f"{arguments.name} is in {path}: {message}", file=sys.stderr)


def _table(arguments: argparse.Namespace, key: str) -> KeyTable:
    """Return the key that the arguments describe. Raises _WrongUsage."""
    names = ("name", "subject", "role", "tokens_per_second", "concurrent", "weight")
    values: dict[str, Any] = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    if key:
        values["hash"] = editing.hash_of(key)
    if arguments.models is not None:
        values["models"] = [part.strip() for part in arguments.models.split(",")]
    try:
        return checked(values)
    except KeysError as error:
        raise _WrongUsage(str(error)) from None


def _list(path: Path) -> None:
    if not path.exists():
        raise KeysError(f"cannot read {path}: there is no such file")
    rows = [("name", "shows", "role", "tokens/s", "calls", "models", "weight"), *map(_row, editing.listed(path))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _row(key: KeyTable) -> Sequence[str]:
    return (
        key.name,
        key.subject or "a key",
        key.role,
        f"{key.tokens_per_second:,.10g}" if key.tokens_per_second else "-",
        str(key.concurrent or "-"),
        ",".join(key.models) or "all",
        f"{key.weight:g}",
    )
