"""The command `bertstream generate`, and what it shares with `bertstream summarize`."""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

from bertstream.cli._input import READS_LINES, Line, add_lines_options, add_text, reads_lines, texts_of
from bertstream.cli._interrupt import check
from bertstream.cli._options import Commands, add_model, add_text_options, client, command, text_options
from bertstream.cli._output import print_json
from bertstream.cli._table import printable

if TYPE_CHECKING:
    from bertstream.client import Client, GeneratedBatch, Generation, RpcError

EXAMPLES = """\
examples:
  bertstream generate "The quick brown" --max-new-tokens 30          tokens as they come
  bertstream generate "Once upon" --do-sample --temperature 0.8 --num-return-sequences 3
  bertstream generate "The quick brown" --num-beams 4 --json         printed when the search has ended
  bertstream generate - --stop . < prompts.txt                       one prompt per line, one answer per line, in order

Several answers are numbered. Options of sampling need --do-sample, those of a beam search --num-beams above 1."""

_EARLY_STOPPING: dict[str, bool | str] = {"true": True, "false": False, "never": "never"}
_NAMES = (
    *("max_new_tokens", "min_new_tokens", "num_beams", "length_penalty", "early_stopping", "do_sample", "temperature"),
    *("top_k", "top_p", "seed", "repetition_penalty", "no_repeat_ngram_size", "bad_words", "stop_strings"),
    *("eos_token_ids", "keep_special_tokens", "timeout"),
)

Answered: TypeAlias = "tuple[Line, list[Generation] | RpcError]"
"""A prompt, and its answers or its error."""


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = command(commands, "generate", run, "print what a model writes after a prompt, as it comes", EXAMPLES)
    help_text = "the prompt; - reads one from each line of stdin"
    prompt = add_text(parser, "prompt", READS_LINES, metavar="PROMPT", help=help_text)
    parser.add_argument("--token-scores", action="store_true", help="with --json: each token's log-probability")
    add_generation_options(parser, beams=1)
    parser.add_argument("--num-return-sequences", type=int, metavar="N", help="how many answers (default: 1)")
    add_lines_options(parser, prompt)


def add_generation_options(parser: argparse.ArgumentParser, beams: int | None = None) -> None:
    """Add the options of generation and tokenization; `beams` is the default of --num-beams."""
    parser.add_argument("--keep-going", action="store_true", help="go on when a line fails (exit code 1)")
    add_model(parser)
    group = parser.add_argument_group("generation (default: as the checkpoint says)")
    group.add_argument("--max-new-tokens", type=int, metavar="N", help="the most tokens")
    group.add_argument("--min-new-tokens", type=int, metavar="N", help="the fewest tokens")
    group.add_argument("--repetition-penalty", type=float, metavar="X", help="above 1: fewer repetitions")
    group.add_argument("--no-repeat-ngram-size", type=int, metavar="N", help="no run of N tokens occurs twice")
    group.add_argument("--bad-word", action="append", dest="bad_words", metavar="WORD", help="never generate this word")
    group.add_argument("--stop", action="append", dest="stop_strings", metavar="TEXT", help="end before this text")
    group.add_argument(
        "--eos-token-id", action="append", type=int, dest="eos_token_ids", metavar="ID", help="end with this token"
    )
    group.add_argument("--keep-special-tokens", action="store_true", help="keep special tokens such as [SEP]")
    _add_search_options(parser, beams)
    _add_sampling_options(parser)
    add_text_options(parser)


def _add_search_options(parser: argparse.ArgumentParser, beams: int | None) -> None:
    group = parser.add_argument_group("beam search")
    default = "the checkpoint's" if beams is None else str(beams)
    group.add_argument(
        "--num-beams", type=int, default=beams, metavar="N", help=f"beams; 1 for no search (default: {default})"
    )
    group.add_argument("--length-penalty", type=float, metavar="X", help="above 0: longer answers")
    group.add_argument("--early-stopping", choices=list(_EARLY_STOPPING), help="when it ends, as in transformers")


def _add_sampling_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("sampling")
    group.add_argument("--do-sample", action=argparse.BooleanOptionalAction, help="draw tokens at random")
    group.add_argument("--temperature", type=float, metavar="X", help="below 1: prefer probable tokens")
    group.add_argument("--top-k", type=int, metavar="N", help="only the N most probable tokens; 0 for all")
    group.add_argument("--top-p", type=float, metavar="P", help="only tokens that together reach this probability")
    group.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same tokens")


def generation_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options of `add_generation_options`, and --timeout, as arguments of the SDK."""
    options = {name: getattr(arguments, name) for name in _NAMES}
    options["early_stopping"] = _EARLY_STOPPING.get(arguments.early_stopping)
    for name in ("bad_words", "stop_strings", "eos_token_ids"):
        options[name] = options[name] or ()
    return {**options, **text_options(arguments)}


def run(arguments: argparse.Namespace) -> int:
    """Print the generated texts. Returns 1 if some prompts failed."""
    options = {**generation_options(arguments), "num_return_sequences": arguments.num_return_sequences}
    given = [] if arguments.prompt is None else [arguments.prompt]
    many, failed = reads_lines(arguments, given), 0
    with texts_of(arguments, given) as prompts, client(arguments) as connection:
        if not many and not arguments.json and arguments.num_beams == 1:
            _show_pieces(connection, arguments.prompt, options)
            return 0
        show = _print_json if arguments.json else _print_lines if many else _print_whole
        options |= {"token_scores": arguments.token_scores, "priority": "bulk" if many else "interactive"}
        for prompt, answers in answered(connection, prompts, keep_going=arguments.keep_going, **options):
            failed += complain(answers)
            show(prompt, answers)
    return 1 if failed else 0


def answered(connection: Client, prompts: Iterable[Line], *, keep_going: bool, **options: Any) -> Iterator[Answered]:
    """Yield prompts with their answers, in order, each as soon as it and all before it are ready."""
    waiting: deque[Line] = deque()

    def noted() -> Iterator[Line]:
        for prompt in prompts:
            check()
            waiting.append(prompt)
            yield prompt

    batches = connection.generate_stream(
        noted(), batch_size=1, on_error="collect" if keep_going else "raise", **options
    )
    for batch in batches:
        check()
        for outcome in _outcomes(batch):
            yield waiting.popleft(), outcome


def complain(outcome: list[Generation] | RpcError) -> bool:
    """Print the error, if the outcome is one, and return whether it is."""
    if isinstance(outcome, list):
        return False
    print(f"bertstream: error: {outcome}", file=sys.stderr)
    return True


def shown(text: str) -> str:
    """Return the text for a terminal, with control characters other than line breaks and tabs as escapes."""
    return "".join(character if character in "\n\t" else printable(character) for character in text)


def values_of(answer: Generation) -> dict[str, Any]:
    """Return an answer as values for JSON."""
    return {name: value for name, value in asdict(answer).items() if value is not None}


def error_values(error: RpcError) -> dict[str, Any]:
    """Return an error as values for JSON."""
    return {"error": {"status": error.status, "message": error.message}}


def _outcomes(batch: GeneratedBatch[Any]) -> list[list[Generation] | RpcError]:
    """Return the answers or errors of the batch's items, in the order of their ids."""
    outputs = (output if isinstance(output, list) else [output] for output in batch.results)
    good: Iterator[tuple[int, Any]] = zip(batch.ids.tolist(), outputs, strict=True)
    bad = ((failure.id, failure.error) for failure in batch.errors)
    return [outcome for _, outcome in sorted(chain(good, bad), key=lambda item: item[0])]


def _show_pieces(connection: Client, prompt: str, options: dict[str, Any]) -> None:
    """Print the first answer as it comes, then the others."""
    from bertstream.client import GenerationDone

    others: list[Generation] = []
    begun = False
    prefix = "1: " if (options["num_return_sequences"] or 1) > 1 else ""
    try:
        for piece in connection.stream_generate(prompt, **options):
            check()
            if isinstance(piece, GenerationDone):
                others = piece.outputs[1:]
            elif piece.sequence_index:
                continue
            sys.stdout.write(shown(piece.text) if begun else prefix + shown(piece.text))
            sys.stdout.flush()
            begun = True
    finally:
        if begun:  # so that the next output, such as an error, starts on its own line
            print(flush=True)
    for number, answer in enumerate(others, 2):
        print(f"{number}: {shown(answer.text)}")


def _print_whole(prompt: Line, answers: list[Generation] | RpcError) -> None:
    """Print the answers as they are."""
    _print_numbered(answers, shown)


def _print_lines(prompt: Line, answers: list[Generation] | RpcError) -> None:
    """Print one line per answer, and an empty line for a prompt that failed."""
    _print_numbered(answers, printable)


def _print_json(prompt: Line, answers: list[Generation] | RpcError) -> None:
    """Print one JSON object per prompt."""
    values = {"answers": list(map(values_of, answers))} if isinstance(answers, list) else error_values(answers)
    # Bytes of a line that were not UTF-8 cannot be printed as they are.
    legible = prompt.text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    print_json({"prompt": legible, **values})


def _print_numbered(answers: list[Generation] | RpcError, made: Any) -> None:
    texts = [made(answer.text) for answer in answers] if isinstance(answers, list) else [""]
    for number, text in enumerate(texts, 1):
        print(text if len(texts) == 1 else f"{number}: {text}", flush=True)
