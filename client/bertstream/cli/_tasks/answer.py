"""The command `bertstream answer`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bertstream.cli._files import add_files, run_files, wants_files
from bertstream.cli._input import STDIN, InsteadOf, add_text, whole_text
from bertstream.cli._options import Commands, UsageError, add_model, client, command
from bertstream.cli._output import print_json
from bertstream.cli._table import table

EXAMPLES = """\
examples:
  bertstream answer "Where does she live?" "My name is Sarah and I live in London."
  bertstream answer "Who wrote it?" --file article.txt --top-k 3
  bertstream answer "Who wrote it?" - < article.txt         long contexts are read in overlapping windows
  bertstream answer "Who wrote it?" - --allow-no-answer --json < article.txt
  bertstream answer questions.parquet --column question,context -o answers.parquet
  bertstream answer "Who wrote it?" articles.parquet --column body -o answers.parquet"""

HEADER = ("SCORE", "START", "END", "ANSWER")


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = command(commands, "answer", run, "answer a question from a text", EXAMPLES)
    add_text(parser, "question", metavar="QUESTION", help="the question")
    context = add_text(
        parser,
        "context",
        "`--file {name}` reads it",
        metavar="CONTEXT",
        help="the text that may have the answer; - for stdin",
    )
    parser.add_argument(
        "--file",
        type=Path,
        action=InsteadOf,
        argument=context,
        metavar="FILE",
        help="the file that has the context, in UTF-8; - for stdin",
    )
    parser.add_argument("--top-k", type=int, metavar="N", help="print the best N answers (default: 1)")
    parser.add_argument("--allow-no-answer", action="store_true", help='let "no answer" be the answer')
    parser.add_argument("--max-answer-tokens", type=int, metavar="TOKENS", help="the longest answer (default: 15)")
    add_model(parser)
    group = parser.add_argument_group("windows of a long context")
    group.add_argument(
        "--max-length", type=int, metavar="TOKENS", help="length of a window, with the question (default: 384)"
    )
    group.add_argument("--stride", type=int, metavar="TOKENS", help="tokens that windows share (default: 128)")
    add_files(parser, unneeded=context)


def run(arguments: argparse.Namespace) -> int:
    """Print the answers."""
    names = ("top_k", "allow_no_answer", "max_answer_tokens", "model", "max_length", "stride", "timeout")
    options = {name: getattr(arguments, name) for name in names}
    if wants_files(arguments, []):
        return _run_files(arguments, options)
    options["top_k"] = 1 if arguments.top_k is None else arguments.top_k
    context = _context(arguments)
    with client(arguments) as connection:
        answers = connection.answer(arguments.question, context, **options)
    if arguments.json:
        for answer in answers:
            print_json(asdict(answer))
    else:
        rows = [(f"{each.score:.4f}", str(each.start), str(each.end), each.text or "(no answer)") for each in answers]
        print(table(HEADER, rows, right=(1, 2)))
    return 0


def _run_files(arguments: argparse.Namespace, options: dict[str, Any]) -> int:
    """Write an answer for each row: to its question from its context, or to the question that is given."""
    if arguments.file is not None:
        raise UsageError("--file is for one context that is read as a whole; with --output give the file in its place")
    if arguments.context is None:
        return run_files(arguments, "answer", [arguments.question], options)
    return run_files(arguments, "answer", [arguments.context], options, first=arguments.question)


def _context(arguments: argparse.Namespace) -> str:
    if arguments.file is None:
        return whole_text(STDIN) if arguments.context == "-" else str(arguments.context)
    if arguments.context is not None:
        raise UsageError("give the context or --file FILE, not both")
    return whole_text(arguments.file)
