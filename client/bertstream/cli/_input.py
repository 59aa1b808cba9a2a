"""Texts from arguments, or from the lines of a file or of standard input."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import count, islice
from pathlib import Path
from typing import IO, Any, NamedTuple

from bertstream.cli._interrupt import check
from bertstream.cli._options import UsageError

CHUNK_TEXTS = 256
STDIN = Path("-")

READS_LINES = "`--input {name}` reads a text from each of its lines"
READS_NOTHING = '`"$(cat {name})"` is what is in it'


class Line(NamedTuple):
    """A text, and its number from 0 on: of an argument among the arguments, of a line among all lines."""

    number: int
    text: str


def add_text(
    parser: argparse.ArgumentParser, name: str, instead: str = READS_NOTHING, **options: Any
) -> argparse.Action:
    """An argument that is a text, or several; `instead`: what to do where it turns out to be the name of a file."""
    if not (known := parser.get_default("text_arguments")):
        parser.add_argument("--literal", action="store_true", help="take a text as it is, even if a file has that name")
    action = parser.add_argument(name, **options)
    parser.set_defaults(text_arguments={**(known or {}), action.dest: instead})
    return action


def add_texts(parser: argparse.ArgumentParser, metavar: str = "TEXT", what: str = "a text") -> None:
    """The argument `texts`, and the options of what reads lines."""
    help_text = f"{what}; a single - reads one from each line of stdin"
    add_lines_options(parser, add_text(parser, "texts", READS_LINES, nargs="+", metavar=metavar, help=help_text))


def add_lines_options(parser: argparse.ArgumentParser, texts: argparse.Action) -> None:
    """The options of a command that takes texts from lines; `texts`: its argument that does so where it is -."""
    group = parser.add_argument_group("a text a line")
    group.add_argument(
        "--input",
        type=Path,
        action=InsteadOf,
        argument=texts,
        metavar="FILE",
        help=f"read the lines of FILE, in UTF-8, in place of {texts.metavar}; - for stdin",
    )
    add_skip_empty(group)


def add_skip_empty(group: argparse._ActionsContainer) -> None:
    """The option --skip-empty."""
    group.add_argument(
        "--skip-empty",
        action="store_true",
        help="leave out empty and blank lines, which ids still count (default: each is a text, so that rows are lines)",
    )


class InsteadOf(argparse.Action):
    """An option in place of an argument, which must not be missing else."""

    def __init__(self, *options: Any, argument: argparse.Action, **more: Any) -> None:
        super().__init__(*options, **more)
        self._argument = argument

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        """Takes the option's value. Where the argument is given too, that is for its command to see."""
        setattr(namespace, self.dest, values)
        # From the start it may not be optional: argparse takes the first place where one can be missing.
        self._argument.nargs = "*" if self._argument.nargs in ("+", "*") else "?"
        self._argument.required = False


def refuse_names_of_files(arguments: argparse.Namespace) -> None:
    """Raises UsageError where an argument that should be a text, or all of several, are names of files."""
    hints: Mapping[str, str] = getattr(arguments, "text_arguments", {})
    if not hints or arguments.literal:
        return
    for argument, hint in hints.items():
        given = getattr(arguments, argument) or []
        texts = [given] if isinstance(given, str) else given
        if texts and all(map(_is_file, texts)):
            name, others = texts[0], len(texts) - 1
            are = f"{name} and {others} more are names of files" if others else f"{name} is the name of a file"
            raise UsageError(f"{are}: {hint.format(name=shlex.quote(name))}; --literal takes a name as a text")


def _is_file(text: str) -> bool:
    with suppress(OSError):  # no file has a name that long
        # The locale may not be UTF-8, as the text is.
        return text != "-" and Path(os.fsdecode(text.encode("utf-8", "surrogateescape"))).is_file()
    return False


def reads_lines(arguments: argparse.Namespace, given: Sequence[str]) -> bool:
    """Whether the texts are lines of a file or of standard input."""
    return arguments.input is not None or list(given) == ["-"]


@contextmanager
def texts_of(arguments: argparse.Namespace, given: Sequence[str]) -> Iterator[Iterator[Line]]:
    """The texts given, or the lines of what is to be read, which is open from the start."""
    if arguments.input is not None and given:
        raise UsageError("give the texts or --input FILE, not both")
    if reads_lines(arguments, given):
        with opened(arguments.input or STDIN) as file:
            yield lines(file, arguments.skip_empty)
        return
    if arguments.skip_empty:
        raise UsageError("--skip-empty is for lines: give - or --input FILE")
    yield map(Line, count(), given)


def chunks(texts: Iterable[Line]) -> Iterator[list[str]]:
    """The texts, some at a time."""
    rest = iter(texts)
    while chunk := [line.text for line in islice(rest, CHUNK_TEXTS)]:
        check()
        yield chunk


@contextmanager
def opened(source: Path) -> Iterator[IO[bytes]]:
    """The file, or standard input where it is -."""
    if source == STDIN:
        yield sys.stdin.buffer
        return
    with source.open("rb") as file:
        yield file


def lines(file: IO[bytes], skip_empty: bool = False) -> Iterator[Line]:
    """The lines, as UTF-8 whatever the locale. An empty one is an empty text; one left out counts all the same."""
    for number, line in enumerate(file):
        text = utf8_text(line).removesuffix("\n").removesuffix("\r")
        if text.strip() or not skip_empty:
            yield Line(number, text)


def whole_text(source: Path) -> str:
    """All of the file, or of standard input where it is -."""
    with opened(source) as file:
        return utf8_text(file.read())


def utf8_text(data: bytes) -> str:
    """The text as it is, line ends too. What is not UTF-8 becomes lone surrogates, which the SDK refuses with the
    number of the text.
    """
    return data.decode("utf-8", errors="surrogateescape")
