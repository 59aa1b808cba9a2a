"""The command `bertstream score`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from bertstream.cli._files import add_files, run_files, sources_of, wants_files
from bertstream.cli._input import add_texts, chunks, texts_of
from bertstream.cli._options import Commands, add_task_options, client, command, task_options
from bertstream.cli._output import print_json
from bertstream.cli._table import clipped

if TYPE_CHECKING:
    from bertstream.client import TextScore

EXAMPLES = """\
examples:
  bertstream score "The cat sat on the mat." "The cat sat on the moon."
  bertstream score - --json < texts.txt                   also the logarithm of each token's probability
  bertstream score texts.txt -o scores.parquet

The score is the pseudo-log-likelihood: the sum of the logarithms of the tokens' probabilities, each while only that
token is masked. Less negative means likelier. The perplexity is a mean over tokens, so it does not grow with length."""


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = command(commands, "score", run, "print how likely texts are to a masked language model", EXAMPLES)
    add_texts(parser)
    add_task_options(parser)
    add_files(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the scores."""
    if wants_files(arguments, arguments.texts):
        return run_files(arguments, "score_text", sources_of(arguments, arguments.texts), task_options(arguments))
    with texts_of(arguments, arguments.texts) as texts, client(arguments) as connection:
        if not arguments.json:
            print("     SCORE  TOKENS  PERPLEXITY  TEXT")
        for chunk in chunks(texts):
            for text, score in zip(chunk, connection.score_text(chunk, **task_options(arguments)), strict=True):
                if arguments.json:
                    print_json({"text": text, **_values(score)})
                else:
                    numbers = f"{score.score:10.3f}  {score.token_count:6}  {score.perplexity:10.3f}"
                    print(f"{numbers}  {clipped(text, 100)}")
    return 0


def _values(score: TextScore) -> dict[str, object]:
    perplexity = score.perplexity if score.token_count else None
    columns = {"token_ids": score.token_ids.tolist(), "log_probabilities": score.log_probabilities.tolist()}
    return {"score": score.score, "perplexity": perplexity, **columns}
