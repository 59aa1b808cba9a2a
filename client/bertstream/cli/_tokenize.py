"""The command `bertstream tokenize`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from bertstream.cli._files import add_files, run_files, sources_of, wants_files
from bertstream.cli._input import add_texts, chunks, texts_of
from bertstream.cli._options import Commands, add_model, add_text_options, client, command, text_options
from bertstream.cli._output import print_json
from bertstream.cli._table import clipped
from bertstream.cli._tables import shown_table

if TYPE_CHECKING:
    from bertstream.client import Tokens

EXAMPLES = """\
examples:
  bertstream tokenize "Hello, Welt!"
  bertstream tokenize "a long text" --max-length 128 --stride 32    overlapping windows
  bertstream tokenize - --json < texts.txt                          one JSON object per line
  bertstream tokenize corpus.parquet --column body -o tokens.parquet"""

HEADER = ("#", "TOKEN", "ID", "START", "END", "WORD", "TEXT")


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = command(commands, "tokenize", run, "print the tokens of texts", EXAMPLES)
    add_texts(parser)
    add_model(parser)
    add_text_options(parser)
    parser.add_argument("--overflow", action="store_true", help="show what is cut off as further windows")
    parser.add_argument("--stride", type=int, metavar="TOKENS", help="tokens that windows share; implies --overflow")
    add_files(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the tokens."""
    options: dict[str, Any] = {**text_options(arguments), "overflow": arguments.overflow, "stride": arguments.stride}
    if wants_files(arguments, arguments.texts):
        return run_files(arguments, "tokenize", sources_of(arguments, arguments.texts), options)
    show = _print_json if arguments.json else _print_table
    with texts_of(arguments, arguments.texts) as texts, client(arguments) as connection:
        for chunk in chunks(texts):
            for tokens in connection.tokenize(chunk, timeout=arguments.timeout, **options):
                show(chunk[tokens.text_index], tokens)
    return 0


def _print_json(text: str, tokens: Tokens) -> None:
    columns = {
        "token_ids": tokens.token_ids.tolist(),
        "tokens": tokens.tokens,
        "offsets": tokens.offsets.tolist(),
        "token_type_ids": tokens.token_type_ids.tolist(),
        "special_tokens_mask": tokens.special_tokens_mask.astype(int).tolist(),
        "word_ids": tokens.word_ids.tolist(),
    }
    print_json({"text": text, **columns})


def _print_table(text: str, tokens: Tokens) -> None:
    print(f"{clipped(text, 100)}  ({len(tokens)} tokens)")
    spans = tokens.offsets.tolist()
    words = tokens.word_ids.tolist()
    rows = []
    for index, (token, number) in enumerate(zip(tokens.tokens, tokens.token_ids.tolist(), strict=True)):
        (start, end), word = spans[index], words[index]
        found = ("-", "-", "-", "") if tokens.special_tokens_mask[index] else (start, end, word, text[start:end])
        rows.append([str(cell) for cell in (index, token, number, *found)])
    print(shown_table(HEADER, rows, right=(0, 2, 3, 4, 5)), end="\n\n")
