"""`bertstream answer`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from bertstream.cli._input import utf8_text, whole_text
from bertstream.cli._options import Commands, UsageError, add_model, client, command
from bertstream.cli._table import table

EXAMPLES = """\
examples:
  bertstream answer "Where does she live?" "My name is Sarah and I live in London."
  bertstream answer "Who wrote it?" --file article.txt --top-k 3
  bertstream answer "Who wrote it?" - < article.txt         long contexts are read in overlapping windows
  bertstream answer "Who wrote it?" - --allow-no-answer --json < article.txt"""

HEADER = ("SCORE", "START", "END", "ANSWER")


def add_to(commands: Commands) -> None:
    """Adds the command."""
    parser = command(commands, "answer", run, "answer a question from a text", EXAMPLES)
    parser.add_argument("question", metavar="QUESTION", help="the question")
    parser.add_argument("context", nargs="?", metavar="CONTEXT", help="the text that may have the answer; - for stdin")
    parser.add_argument("--file", type=Path, metavar="FILE", help="the file that has the context, in UTF-8")
    parser.add_argument("--top-k", type=int, default=1, metavar="N", help="the best N answers (default: 1)")
    parser.add_argument("--allow-no-answer", action="store_true", help='let "no answer" be the answer')
    parser.add_argument("--max-answer-tokens", type=int, metavar="TOKENS", help="the longest answer (default: 15)")
    add_model(parser)
    group = parser.add_argument_group("windows of a long context")
    group.add_argument("--max-length", type=int, metavar="TOKENS", help="of a window, with the question (default: 384)")
    group.add_argument("--stride", type=int, metavar="TOKENS", help="tokens that windows share (default: 128)")


def run(arguments: argparse.Namespace) -> int:
    """Prints the answers."""
    names = ("top_k", "allow_no_answer", "max_answer_tokens", "model", "max_length", "stride", "timeout")
    options = {name: getattr(arguments, name) for name in names}
    context = _context(arguments)
    with client(arguments) as connection:
        answers = connection.answer(arguments.question, context, **options)
    if arguments.json:
        for answer in answers:
            print(json.dumps(asdict(answer), ensure_ascii=False))
    else:
        rows = [(f"{each.score:.4f}", str(each.start), str(each.end), each.text or "(no answer)") for each in answers]
        print(table(HEADER, rows, right=(1, 2)))
    return 0


def _context(arguments: argparse.Namespace) -> str:
    if (arguments.context is None) == (arguments.file is None):
        raise UsageError("give the context: as an argument, as - for standard input, or with --file")
    if arguments.file is not None:
        return utf8_text(arguments.file.read_bytes())
    return whole_text() if arguments.context == "-" else str(arguments.context)
