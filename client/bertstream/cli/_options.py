"""Options that the client's commands share."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from bertstream.client import Client

DEFAULT_ADDRESS = "127.0.0.1:50051"
# The client's PoolingMode, which would have to be loaded for it; tests hold all such lists to the client's.
POOLING_MODES = ("cls", "mean", "max", "mean_sqrt_len", "weighted_mean", "last_token", "pooler", "checkpoint")
# What is not on the command line. A server's own certificate is in BERTSTREAM_TLS_CERTIFICATE: a client's is another.
_VARIABLES = {
    "tls": "BERTSTREAM_TLS",
    "tls_ca": "BERTSTREAM_TLS_CA",
    "tls_certificate": "BERTSTREAM_TLS_CLIENT_CERTIFICATE",
    "tls_key": "BERTSTREAM_TLS_CLIENT_KEY",
    "tls_server_name": "BERTSTREAM_TLS_SERVER_NAME",
    "api_key": "BERTSTREAM_API_KEY",
    "insecure_key": "BERTSTREAM_INSECURE_KEY",
}

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


class UsageError(Exception):
    """What was asked for makes no sense."""


def command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], int], summary: str, epilog: str
) -> argparse.ArgumentParser:
    """A subcommand with the common options."""
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
    address = os.environ.get("BERTSTREAM_ADDRESS") or DEFAULT_ADDRESS
    common.add_argument("--address", default=address, help="HOST:PORT (default: $BERTSTREAM_ADDRESS, else %(default)s)")
    _add_security(common)
    common.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="give up after so long")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _add_security(group: argparse._ArgumentGroup) -> None:
    """Options that say how the server is known, and what is shown to it. Variables are read when a call is made."""
    group.add_argument("--tls", action=argparse.BooleanOptionalAction, help="whether to speak TLS")
    for name, metavar, what in (
        ("tls_ca", "FILE", "authorities to trust, in place of the system's"),
        ("tls_certificate", "FILE", "certificate of this client, for a server that asks for one"),
        ("tls_key", "FILE", "key of that certificate"),
        ("tls_server_name", "NAME", "name in the server's certificate, where it is not the address's"),
    ):
        shown = f"{what} (default: ${_VARIABLES[name]})"
        group.add_argument("--" + name.replace("_", "-"), metavar=metavar, help=shown)
    group.add_argument(
        "--api-key", metavar="KEY", help="better in $BERTSTREAM_API_KEY: others on this machine see a command line"
    )
    group.add_argument(
        "--insecure-key",
        action=argparse.BooleanOptionalAction,
        help="whether the key may go to another machine in plain text",
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """The option --model."""
    parser.add_argument("--model", default="", metavar="NAME", help="the model (default: the server's)")


def add_length_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Options that say what is done with long texts."""
    group = parser.add_argument_group("tokenization")
    group.add_argument("--max-length", type=int, metavar="TOKENS", help="cut texts to so many tokens, special ones too")
    group.add_argument(
        "--no-truncation", action="store_const", const=False, dest="truncation", help="fail on long texts"
    )
    group.add_argument("--truncation-side", choices=["right", "left"], help="the end that is cut off")
    return group


def add_text_options(parser: argparse.ArgumentParser) -> None:
    """Options that say how texts are tokenized."""
    group = add_length_options(parser)
    group.add_argument(
        "--no-special-tokens", action="store_const", const=False, dest="add_special_tokens", help="add no [CLS], [SEP]"
    )


def add_task_options(parser: argparse.ArgumentParser) -> None:
    """Options of all task heads."""
    add_model(parser)
    add_length_options(parser)


def task_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What add_task_options gave, and --timeout, as arguments of the SDK."""
    names = ("model", "max_length", "truncation", "truncation_side", "timeout")
    return {name: getattr(arguments, name) for name in names}


def text_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What add_text_options and add_model gave, as arguments of the SDK."""
    names = ("model", "max_length", "truncation", "truncation_side", "add_special_tokens")
    return {name: getattr(arguments, name) for name in names}


def add_vector_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Options that say how vectors are made."""
    group = parser.add_argument_group("the vectors (default: as the checkpoint says)")
    group.add_argument("--pooling", choices=POOLING_MODES, help="how token states become one vector")
    group.add_argument("--normalize", action=argparse.BooleanOptionalAction, help="to unit length, or not")
    group.add_argument(
        "--layers", type=numbers, metavar="K,…", help="layers to pool, such as -1,-2 (write --layers=-1,-2)"
    )
    group.add_argument("--layer-combination", choices=["mean", "sum", "concatenate"])
    group.add_argument("--dimensions", type=int, metavar="N", help="keep the first N")
    group.add_argument("--prompt", metavar="TEXT", help="put before every text")
    group.add_argument("--prompt-name", metavar="NAME", help="a prompt of the checkpoint's")
    return group


def vector_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What add_vector_options gave, as arguments of the SDK."""
    names = ("pooling", "normalize", "layers", "layer_combination", "dimensions", "prompt", "prompt_name")
    return {name: getattr(arguments, name) for name in names}


def numbers(text: str) -> list[int]:
    """Such as "0,6,12"."""
    return [int(number) for number in text.split(",")]


def words(text: str) -> list[str]:
    """Such as "sport,weather"."""
    return [word.strip() for word in utf8_argument(text).split(",")]


def utf8_argument(argument: str) -> str:
    """An argument as UTF-8, whatever the locale; one that is not UTF-8 stays as the locale reads it."""
    try:
        return os.fsencode(argument).decode("utf-8")
    except UnicodeError:
        return argument


def suffixed(output: Path | None, suffix: str) -> Path | None:
    """The file to write, whose name must say what it is."""
    if output is not None and output.suffix != suffix:
        raise UsageError(f"{output.name}: give a name that ends in {suffix}")
    return output


def client(arguments: argparse.Namespace) -> Client:
    """The client for the common options. Only now is gRPC loaded, so that help and wrong usage are told at once."""
    from bertstream.client import TLS, Client

    security = {name: _switch(arguments, name) for name in ("tls", "insecure_key")}
    texts = ("tls_ca", "tls_certificate", "tls_key", "tls_server_name")
    own = {name.removeprefix("tls_"): text for name in texts if (text := _told(arguments, name))}
    tls = TLS(**own) if own and security["tls"] is not False else bool(security["tls"])
    key = _told(arguments, "api_key") or None
    return Client(arguments.address, tls=tls, api_key=key, insecure_key=bool(security["insecure_key"]))


def _told(arguments: argparse.Namespace, name: str) -> str:
    """An option's text, else its variable's, else nothing."""
    return getattr(arguments, name) or os.environ.get(_VARIABLES[name], "")


def _switch(arguments: argparse.Namespace, name: str) -> bool | None:
    """The same of what is on or off; None where nobody says."""
    if (given := getattr(arguments, name)) is not None:
        return bool(given)
    text = os.environ.get(_VARIABLES[name], "").lower()
    if text not in ("", "0", "1", "false", "true"):
        raise UsageError(f"{_VARIABLES[name]} must be true or false, not {text!r}")
    return text in ("1", "true") if text else None


def _seconds(text: str) -> float:
    seconds = float(text)
    if seconds <= 0:
        raise argparse.ArgumentTypeError("must be above 0")
    return seconds
