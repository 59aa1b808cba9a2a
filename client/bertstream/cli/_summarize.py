"""The command `bertstream summarize`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from bertstream.cli._files import add_files, run_files, wants_files
from bertstream.cli._generate import (
    add_generation_options,
    answered,
    complain,
    error_values,
    generation_options,
    shown,
    values_of,
)
from bertstream.cli._input import Line, add_skip_empty, lines, opened, utf8_text
from bertstream.cli._options import Commands, UsageError, client, command
from bertstream.cli._output import note, print_json
from bertstream.cli._table import printable

if TYPE_CHECKING:
    from bertstream.client import Generation, Report, RpcError

EXAMPLES = """\
examples:
  bertstream summarize article.txt --num-beams 4 --no-repeat-ngram-size 3
  bertstream summarize - --max-new-tokens 60 < article.txt
  bertstream summarize articles.txt --lines > summaries.txt      one text per line, one summary per line, in order
  bertstream summarize articles.txt --lines --json               one JSON object per line
  bertstream summarize articles.parquet --column body --keep id -o summaries.parquet

This needs a checkpoint with an encoder and a decoder. A text that is too long for the encoder is cut, with a note."""


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = command(
        commands, "summarize", run, "print a summary, or whatever an encoder-decoder generates from a text", EXAMPLES
    )
    parser.add_argument("file", nargs="+", metavar="FILE", help="the text, in UTF-8; - for standard input")
    parser.add_argument("--lines", action="store_true", help="read each line as a text")
    add_skip_empty(parser)
    add_generation_options(parser)
    add_files(parser)
    parser.set_defaults(literal=False)


def run(arguments: argparse.Namespace) -> int:
    """Print the summaries. Returns 1 if some texts failed."""
    if wants_files(arguments, arguments.file):
        return run_files(arguments, "summarize", arguments.file, generation_options(arguments))
    failed, cut = 0, _Cut()
    if len(arguments.file) > 1:
        raise UsageError("give one file, or --output for several")
    if arguments.skip_empty and not arguments.lines:
        raise UsageError("--skip-empty needs --lines")
    with opened(Path(arguments.file[0])) as file, client(arguments) as connection:
        connection.summarize([], model=arguments.model, timeout=arguments.timeout)  # fails if the model cannot
        priority = "bulk" if arguments.lines else "interactive"
        options = {**generation_options(arguments), "report": cut.take, "priority": priority}
        found = answered(connection, _texts(arguments, file), keep_going=arguments.keep_going, **options)
        for line, outcome in found:
            failed += complain(outcome)
            _show(arguments, line.number, outcome)
    cut.print_note()
    return 1 if failed else 0


class _Cut:
    """Counts texts that were cut."""

    def __init__(self) -> None:
        self._texts = self._max_length = 0

    def take(self, report: Report) -> None:
        self._texts += report.usage.truncated_texts
        self._max_length = report.options.max_length

    def print_note(self) -> None:
        if self._texts:
            what = "1 text was" if self._texts == 1 else f"{self._texts:,} texts were"
            note(f"bertstream: note: {what} cut to {self._max_length} tokens")


def _texts(arguments: argparse.Namespace, file: IO[bytes]) -> Iterable[Line]:
    return lines(file, arguments.skip_empty) if arguments.lines else [Line(0, utf8_text(file.read()))]


def _show(arguments: argparse.Namespace, number: int, outcome: list[Generation] | RpcError) -> None:
    if arguments.json:
        values: dict[str, Any] = _values(outcome[0]) if isinstance(outcome, list) else error_values(outcome)
        print_json({"id": number, **values} if arguments.lines else values)
        return
    text = outcome[0].text if isinstance(outcome, list) else ""
    print(printable(text) if arguments.lines else shown(text), flush=True)


def _values(answer: Generation) -> dict[str, Any]:
    values = values_of(answer)
    return {"summary": values.pop("text"), **values}
