"""The reference of the command line: what each command's --help says."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from unittest.mock import patch

from bertstream.cli import main

_INTRODUCTION = """\
# Command reference

What `bertstream COMMAND --help` says of each command.
"""
_COMMAND = re.compile(r"^    ([a-z][a-z-]+) {2,}", re.MULTILINE)  # in the list of commands


def page() -> str:
    """Return the page."""
    with patch.dict(os.environ, COLUMNS="100", NO_COLOR="1"):  # argparse wraps lines and paints by them
        sections = [_INTRODUCTION, *(section for section in _sections(()))]
    return "\n".join(sections)


def _sections(command: tuple[str, ...]) -> Iterator[str]:
    said = _help(command)
    yield f"## {' '.join(('bertstream', *command))}\n\n```text\n{said.rstrip()}\n```\n"
    if "COMMAND ..." in said.partition("\n\n")[0]:
        for name in _COMMAND.findall(said):
            yield from _sections((*command, name))


def _help(command: tuple[str, ...]) -> str:
    with redirect_stdout(io.StringIO()) as printed, suppress(SystemExit):
        main([*command, "--help"])
    return printed.getvalue()
