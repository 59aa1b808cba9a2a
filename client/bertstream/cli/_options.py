"""Options that the client's commands share."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from bertstream.client import Client

# As in the client's PoolingMode, which would take long to import; tests compare all such lists with the client's.
POOLING_MODES = ("cls", "mean", "max", "mean_sqrt_len", "weighted_mean", "last_token", "pooler", "checkpoint")
MOST_SECONDS = 1e9  # about 31 years: sockets take ten times as much at most
# Defaults of options. BERTSTREAM_TLS_CERTIFICATE is the server's certificate, so the client's has another variable.
_VARIABLES = {
    "tls": "BERTSTREAM_TLS",
    "tls_ca": "BERTSTREAM_TLS_CA",
    "tls_certificate": "BERTSTREAM_TLS_CLIENT_CERTIFICATE",
    "tls_key": "BERTSTREAM_TLS_CLIENT_KEY",
    "tls_server_name": "BERTSTREAM_TLS_SERVER_NAME",
    "api_key": "BERTSTREAM_API_KEY",
    "insecure_key": "BERTSTREAM_INSECURE_KEY",
}


class Port(NamedTuple):
    """A port of the server, and how a command is told its address."""

    option: str
    variable: str
    default: str
    form: str


RPC = Port("--address", "BERTSTREAM_ADDRESS", "127.0.0.1:50051", "HOST:PORT, or several with commas between")
SMALL_SECONDS = 10.0
"""How long a command waits for a small answer, that a server gives at once."""
ADMIN = Port("--admin-address", "BERTSTREAM_ADMIN_ADDRESS", "127.0.0.1:9464", "HOST:PORT of --admin-port")

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


class UsageError(Exception):
    """The command line makes no sense."""


def command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
    epilog: str,
    port: Port = RPC,
    seconds: float | None = None,
) -> argparse.ArgumentParser:
    """Add a subcommand with the common options, which asks this port, and return its parser.

    seconds: after which it gives up, unless --timeout says otherwise; None for no limit.
    """
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.register("type", None, utf8_argument)
    parser.set_defaults(run=run)
    common = parser.add_argument_group("the server")
    address = os.environ.get(port.variable) or port.default
    shown = f"{port.form} (default: ${port.variable}, else %(default)s)"
    common.add_argument(port.option, dest="address", metavar="ADDRESS", default=address, help=shown)
    _add_security(common)
    shown = "give up after this time" + (f" (default: {seconds:g})" if seconds else "")
    common.add_argument("--timeout", type=_seconds, metavar="SECONDS", default=seconds, help=shown)
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def local_command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], int], summary: str, epilog: str
) -> argparse.ArgumentParser:
    """Add a subcommand that asks no server, and return its parser."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run, address="")
    return parser


def _add_security(group: argparse._ArgumentGroup) -> None:
    """Add the options of TLS and the API key. Their environment variables are read when a call is made."""
    group.add_argument("--tls", action=argparse.BooleanOptionalAction, help="whether to use TLS")
    for name, metavar, what in (
        ("tls_ca", "FILE", "authorities to trust, in place of the system's"),
        ("tls_certificate", "FILE", "certificate of this client, for a server that asks for one"),
        ("tls_key", "FILE", "key of that certificate"),
        ("tls_server_name", "NAME", "name in the server's certificate, if it differs from the address"),
    ):
        shown = f"{what} (default: ${_VARIABLES[name]})"
        group.add_argument("--" + name.replace("_", "-"), metavar=metavar, help=shown)
    group.add_argument(
        "--api-key", metavar="KEY", help="prefer $BERTSTREAM_API_KEY: others on this machine can see a command line"
    )
    group.add_argument(
        "--insecure-key",
        action=argparse.BooleanOptionalAction,
        help="whether the key may go to another machine in plain text",
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the option --model."""
    parser.add_argument("--model", default="", metavar="NAME", help="the model (default: the server's)")


def add_length_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the options for long texts."""
    group = parser.add_argument_group("tokenization")
    group.add_argument("--max-length", type=int, metavar="TOKENS", help="cut longer texts to this many tokens")
    group.add_argument(
        "--no-truncation", action="store_const", const=False, dest="truncation", help="fail on long texts"
    )
    group.add_argument("--truncation-side", choices=["right", "left"], help="the end that is cut off")
    return group


def add_text_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of tokenization."""
    group = add_length_options(parser)
    group.add_argument(
        "--no-special-tokens", action="store_const", const=False, dest="add_special_tokens", help="add no [CLS], [SEP]"
    )


def add_task_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of all task heads."""
    add_model(parser)
    add_length_options(parser)


def add_window_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for texts that are read in windows."""
    group = parser.add_argument_group("texts longer than --max-length")
    group.add_argument("--long-texts", choices=["cut", "windows"], help="cut them (default), or read them in windows")
    group.add_argument(
        "--stride", type=int, metavar="TOKENS", help="that two windows share (default: a quarter of one)"
    )
    group.add_argument("--window-pooling", choices=["mean", "max", "weighted"], help="how windows become one answer")


def window_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options of `add_window_options` as arguments of the SDK."""
    return {name: getattr(arguments, name) for name in ("long_texts", "stride", "window_pooling")}


def task_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options of `add_task_options`, and --timeout, as arguments of the SDK."""
    names = ("model", "max_length", "truncation", "truncation_side", "timeout")
    return {name: getattr(arguments, name) for name in names}


def text_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options of `add_text_options` and `add_model` as arguments of the SDK."""
    names = ("model", "max_length", "truncation", "truncation_side", "add_special_tokens")
    return {name: getattr(arguments, name) for name in names}


def add_vector_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the options of pooling and prompts, and return their group."""
    group = parser.add_argument_group("the vectors (default: as the checkpoint says)")
    group.add_argument("--pooling", choices=POOLING_MODES, help="how token states become one vector")
    group.add_argument("--normalize", action=argparse.BooleanOptionalAction, help="scale vectors to unit length")
    group.add_argument(
        "--layers", type=numbers, metavar="K,…", help="layers to pool, such as -1,-2 (write --layers=-1,-2)"
    )
    group.add_argument("--layer-combination", choices=["mean", "sum", "concatenate"])
    group.add_argument("--dimensions", type=int, metavar="N", help="keep the first N")
    add_prompt(group)
    return group


def add_prompt(group: argparse._ActionsContainer) -> None:
    """Add the options of prompts."""
    group.add_argument("--prompt", metavar="TEXT", help="text to put before every text")
    group.add_argument("--prompt-name", metavar="NAME", help="one of the checkpoint's prompts")


def prompt_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options of `add_prompt` as arguments of the SDK."""
    return {name: getattr(arguments, name) for name in ("prompt", "prompt_name")}


def vector_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options of `add_vector_options` as arguments of the SDK."""
    names = ("pooling", "normalize", "layers", "layer_combination", "dimensions")
    return {**{name: getattr(arguments, name) for name in names}, **prompt_options(arguments)}


def numbers(text: str) -> list[int]:
    """Read an argument such as "0,6,12"."""
    return [int(number) for number in text.split(",")]


def words(text: str) -> list[str]:
    """Read an argument such as "sport,weather"."""
    return [word.strip() for word in utf8_argument(text).split(",")]


def utf8_argument(argument: str) -> str:
    """Return an argument read as UTF-8, whatever the locale is; one that is not UTF-8 stays as it is."""
    try:
        return os.fsencode(argument).decode("utf-8")
    except UnicodeError:
        return argument


def suffixed(output: Path | None, *suffixes: str) -> Path | None:
    """Return the file to write. Raises UsageError if its name has none of these suffixes."""
    if output is not None and output.suffix not in suffixes:
        raise UsageError(f"{output.name}: give a name that ends in {' or '.join(suffixes)}")
    return output


class Secrets(NamedTuple):
    """How the server is verified, and who calls it."""

    tls: bool
    files: dict[str, str]  # and `server_name`, of those settings of TLS that are given
    api_key: str | None
    insecure_key: bool


def secrets(arguments: argparse.Namespace) -> Secrets:
    """Return what the options say, or else the environment. Raises UsageError for a variable that makes no sense."""
    tls, insecure_key = _switch(arguments, "tls"), _switch(arguments, "insecure_key")
    names = ("tls_ca", "tls_certificate", "tls_key", "tls_server_name")
    files = {name.removeprefix("tls_"): text for name in names if (text := _setting(arguments, name))}
    on = bool(tls) or (tls is None and bool(files))
    return Secrets(on, files if on else {}, _setting(arguments, "api_key") or None, bool(insecure_key))


def client(arguments: argparse.Namespace) -> Client:
    """Return the client for the common options.

    gRPC is imported only here, so that help and usage errors appear at once.
    """
    from bertstream.client import TLS, Client

    on, files, api_key, insecure_key = secrets(arguments)
    return Client(arguments.address, tls=TLS(**files) if files else on, api_key=api_key, insecure_key=insecure_key)


def _setting(arguments: argparse.Namespace, name: str) -> str:
    """Return the value of an option, else of its environment variable, else an empty string."""
    return getattr(arguments, name) or os.environ.get(_VARIABLES[name], "")


def _switch(arguments: argparse.Namespace, name: str) -> bool | None:
    """Return whether an option, or else its environment variable, is on; None if neither is given."""
    if (given := getattr(arguments, name)) is not None:
        return bool(given)
    text = os.environ.get(_VARIABLES[name], "").lower()
    if text not in ("", "0", "1", "false", "true"):
        raise UsageError(f"{_VARIABLES[name]} must be true or false, not {text!r}")
    return text in ("1", "true") if text else None


def _seconds(text: str) -> float:
    seconds = float(text)
    if not seconds > 0:
        raise argparse.ArgumentTypeError("must be a number above 0")
    return min(seconds, MOST_SECONDS)
