"""The commands and their options, as argparse has them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple


class Option(NamedTuple):
    """An option, such as --pooling, or an argument, which has no names."""

    names: tuple[str, ...]
    metavar: str
    """What stands for its value; empty for an option without one."""
    help: str
    choices: tuple[str, ...]
    is_file: bool


class CommandOptions(NamedTuple):
    """A command with its options."""

    name: str
    summary: str
    options: tuple[Option, ...]
    arguments: tuple[Option, ...]
    epilog: str


ParserOf = Callable[[str], argparse.ArgumentParser | None]


def commands_of(parser: argparse.ArgumentParser, others: ParserOf = lambda name: None) -> Iterator[CommandOptions]:
    """Yield the commands of a parser. Those that are parsed elsewhere have the parser that `others` knows, if any."""
    (choices,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    summaries = {action.dest: action.help or "" for action in choices._choices_actions}
    for name, found in choices.choices.items():
        parsed = others(name) or found
        described = [_option(parsed, action) for action in parsed._actions if action.help != argparse.SUPPRESS]
        options = tuple(each for each in described if each.names)
        arguments = tuple(each for each in described if not each.names)
        yield CommandOptions(name, summaries[name], options, arguments, parsed.epilog or "")


def _option(parser: argparse.ArgumentParser, action: argparse.Action) -> Option:
    metavar = ""
    if action.nargs != 0:
        shown = action.metavar or ("" if action.choices is None else "{" + ",".join(map(str, action.choices)) + "}")
        metavar = shown if isinstance(shown, str) and shown else action.dest.upper()
    told = parser._get_formatter()._expand_help(action) if action.help else ""
    is_file = action.type is Path or metavar == "FILE"
    return Option(tuple(action.option_strings), metavar, told, tuple(map(str, action.choices or ())), is_file)
