"""Texts from arguments, or from the lines of a file or of standard input."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from time import monotonic
from typing import IO, Any, NamedTuple

from bertstream.cli._interrupt import check
from bertstream.cli._options import UsageError

CHUNK_TEXTS, CHUNK_SECONDS = 256, 0.1
STDIN = Path("-")

READS_LINES = "`--input {name}` reads a text from each of its lines"
READS_NOTHING = '`"$(cat {name})"` is its content'


class Line(NamedTuple):
    """A text, and its number from 0 on: its place among the arguments, or among all lines."""

    number: int
    text: str


def add_text(
    parser: argparse.ArgumentParser, name: str, instead: str = READS_NOTHING, **options: Any
) -> argparse.Action:
    """Add an argument for one text or several; `instead` is the advice if it turns out to be the name of a file."""
    if not (known := parser.get_default("text_arguments")):
        parser.add_argument("--literal", action="store_true", help="take a text as it is, even if a file has that name")
    action = parser.add_argument(name, **options)
    parser.set_defaults(text_arguments={**(known or {}), action.dest: instead})
    return action


def add_texts(parser: argparse.ArgumentParser, metavar: str = "TEXT", what: str = "a text") -> argparse.Action:
    """Add the argument `texts`, and the options for reading them from lines; return the argument."""
    help_text = f"{what}; a single - reads one from each line of stdin"
    texts = add_text(parser, "texts", READS_LINES, nargs="+", metavar=metavar, help=help_text)
    add_lines_options(parser, texts)
    return texts


def add_lines_options(parser: argparse.ArgumentParser, texts: argparse.Action) -> None:
    """Add the options for reading texts from lines; `texts` is the argument that they replace."""
    group = parser.add_argument_group("one text per line")
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
    """Add the option --skip-empty."""
    group.add_argument(
        "--skip-empty",
        action="store_true",
        help="leave out empty and blank lines; ids still count them (default: each is a text, so that rows are lines)",
    )


class InsteadOf(argparse.Action):
    """An option that replaces an argument, which is required without it."""

    def __init__(self, *options: Any, argument: argparse.Action, **more: Any) -> None:
        super().__init__(*options, **more)
        self._argument = argument

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        """Take the option's value. If the argument is given as well, the command raises the error."""
        setattr(namespace, self.dest, values)
        # It must not be optional from the start, since argparse would then leave it empty at the first chance.
        self._argument.nargs = "*" if self._argument.nargs in ("+", "*") else "?"
        self._argument.required = False


def refuse_names_of_files(arguments: argparse.Namespace) -> None:
    """Raise UsageError if an argument that should be a text, or each of several, is the name of a file."""
    hints: Mapping[str, str] = getattr(arguments, "text_arguments", {})
    in_files = getattr(arguments, "files", False)
    if not hints or arguments.literal or (in_files and arguments.output is not None):
        return
    for argument, hint in hints.items():
        given = getattr(arguments, argument) or []
        texts = [given] if isinstance(given, str) else given
        if texts and all(map(_is_file, texts)):
            name, others = texts[0], len(texts) - 1
            are = f"{name} and {others} more are names of files" if others else f"{name} is the name of a file"
            bulk = ", and `-o OUTPUT` its rows" if in_files else ""
            raise UsageError(f"{are}: {hint.format(name=shlex.quote(name))}{bulk}; --literal takes a name as a text")


def _is_file(text: str) -> bool:
    with suppress(OSError):  # raised for a text that is too long for a file's name
        # The text is UTF-8, but the locale may not be.
        return text != "-" and Path(os.fsdecode(text.encode("utf-8", "surrogateescape"))).is_file()
    return False


def reads_lines(arguments: argparse.Namespace, given: Sequence[str]) -> bool:
    """Return whether the texts are lines of a file or of standard input."""
    return arguments.input is not None or list(given) == ["-"]


@contextmanager
def texts_of(arguments: argparse.Namespace, given: Sequence[str]) -> Iterator[Iterator[Line]]:
    """Provide the given texts, or the lines of the file or standard input, which is opened at once."""
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
    """Yield the texts in lists of some hundreds, or of as many as a slow input gives in a moment."""
    chunk, until = list[str](), monotonic() + CHUNK_SECONDS
    for line in texts:
        chunk.append(line.text)
        if len(chunk) == CHUNK_TEXTS or monotonic() >= until:
            check()
            yield chunk
            chunk, until = [], monotonic() + CHUNK_SECONDS
    if chunk:
        yield chunk


@contextmanager
def opened(source: Path) -> Iterator[IO[bytes]]:
    """Open a file, or standard input for -."""
    if source == STDIN:
        if sys.stdin is None:
            raise OSError("standard input is closed")
        yield sys.stdin.buffer
        return
    with source.open("rb") as file:
        yield file


def lines(file: IO[bytes], skip_empty: bool = False) -> Iterator[Line]:
    """Yield the lines, read as UTF-8 whatever the locale is.

    An empty line is an empty text. Lines that are skipped are counted all the same.
    """
    for number, line in enumerate(file):
        text = utf8_text(line).removesuffix("\n").removesuffix("\r")
        if text.strip() or not skip_empty:
            yield Line(number, text)


def whole_text(source: Path) -> str:
    """Return the whole text of a file, or of standard input for -."""
    with opened(source) as file:
        return utf8_text(file.read())


def utf8_text(data: bytes) -> str:
    """Return the text, with its line ends. Bytes that are not UTF-8 become lone surrogates, which the SDK refuses."""
    return data.decode("utf-8", errors="surrogateescape")
