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
# The client's PoolingMode, which would have to be loaded for it.
POOLING_MODES = ("cls", "mean", "max", "mean_sqrt_len", "weighted_mean", "last_token", "pooler", "checkpoint")

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
    common.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="give up after so long")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


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
    from bertstream.client import Client

    return Client(arguments.address)


def _seconds(text: str) -> float:
    seconds = float(text)
    if seconds <= 0:
        raise argparse.ArgumentTypeError("must be above 0")
    return seconds
