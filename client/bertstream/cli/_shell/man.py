"""The command `bertstream man`: the manual page, from what --help says."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from bertstream.cli._options import Commands, local_command
from bertstream.cli._server import parser_of
from bertstream.cli._shell.tree import CommandOptions, Option, commands_of

EXAMPLES = """\
examples:
  bertstream man | man -l -                                      read it
  bertstream man > ~/.local/share/man/man1/bertstream.1          so that `man bertstream` finds it"""


def add_to(commands: Commands) -> None:
    """Add the command."""
    local_command(commands, "man", run, "print the manual page of all commands", EXAMPLES)


def run(arguments: argparse.Namespace) -> int:
    """Print the page."""
    print("\n".join(page(arguments.root, list(commands_of(arguments.root, parser_of)))))
    return 0


def page(parser: argparse.ArgumentParser, commands: Sequence[CommandOptions]) -> Iterator[str]:
    """Yield the lines of the page, in the language of man(7)."""
    yield '.TH BERTSTREAM 1 "" bertstream "User Commands"'
    yield from _section("NAME", f"bertstream \\- {_text(parser.description or '')}")
    yield from _section("SYNOPSIS", ".B bertstream\n.I COMMAND\n[options] [arguments]")
    yield ".SH COMMANDS"
    for command in commands:
        yield f".SS {_text(command.name)}"
        yield _line(f"{command.summary[:1].upper()}{command.summary[1:]}.")
        for option in (*command.arguments, *command.options):
            yield ".TP"
            yield _heading(option)
            yield _line(option.help)
        yield from _as_it_is(command.epilog)
    yield ".SH NOTES"
    yield from _as_it_is(parser.epilog or "")


def _section(name: str, body: str) -> Iterator[str]:
    yield f".SH {name}"
    yield body


def _heading(option: Option) -> str:
    metavar = f"\\fI{_text(option.metavar)}\\fR" if option.metavar else ""
    if not option.names:
        return metavar
    names = ", ".join(f"\\fB{_text(name)}\\fR" for name in option.names)
    return f"{names} {metavar}".rstrip()


def _as_it_is(text: str) -> Iterator[str]:
    """Yield lines that keep their breaks and spaces."""
    if text:
        yield from (".PP", ".nf", *map(_line, text.splitlines()), ".fi")


def _line(text: str) -> str:
    """Return a line of text, which a dot or an apostrophe at its beginning would make a request."""
    shown = _text(text)
    return f"\\&{shown}" if shown.startswith((".", "'")) else shown


def _text(text: str) -> str:
    return (
        text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga").replace("^", "\\(ha").replace("~", "\\(ti")
    )
