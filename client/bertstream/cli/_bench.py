"""The command `bertstream bench`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from bertstream.cli._input import STDIN, add_lines_options, reads_lines, texts_of
from bertstream.cli._options import Commands, UsageError, add_model, client, command, numbers
from bertstream.cli._output import print_json
from bertstream.cli._tables import shown_table

if TYPE_CHECKING:
    from bertstream.cli._measuring import Measured

EXAMPLES = """\
examples:
  bertstream bench                                       made-up texts of everyday lengths, as a stream and one by one
  bertstream bench --texts 10000 --concurrency 1,16
  bertstream bench --words 90                            all texts of 90 words
  bertstream bench - < corpus.txt                        your own texts, one per line

It measures what a client sees, so run it where your clients run. It slows down other users of the server."""

CALLS = 200
HEADER = ("WHAT", "TEXTS", "SECONDS", "TEXTS/S", "TOKENS/S", "P50 MS", "P95 MS", "P99 MS")


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = command(commands, "bench", run, "measure how fast a server is, as a client sees it", EXAMPLES)
    source = parser.add_argument(
        "source", nargs="?", choices=["-"], metavar="-", help="take the texts from the lines of stdin"
    )
    add_model(parser)
    parser.add_argument(
        "--texts", type=_positive, default=1000, metavar="N", help="texts in the stream (default: 1000)"
    )
    parser.add_argument(
        "--calls", type=_positive, default=CALLS, metavar="N", help=f"calls at each concurrency (default: {CALLS})"
    )
    parser.add_argument(
        "--concurrency", type=numbers, default=[1, 8, 64], metavar="N,…", help="calls at once (default: 1,8,64)"
    )
    parser.add_argument("--max-length", type=int, metavar="TOKENS", help="cut longer texts to this many tokens")
    parser.add_argument("--words", type=_positive, metavar="N", help="words of each text (default: lognormal lengths)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the made-up texts (default: 0)")
    add_lines_options(parser, source)


def run(arguments: argparse.Namespace) -> int:
    """Measure the server, and print the results."""
    from bertstream.cli._measuring import Bench

    if min(arguments.concurrency) < 1:
        raise UsageError("--concurrency: numbers from 1 on")
    made = _texts(arguments)
    calls = [made[number % len(made)] for number in range(arguments.calls)]
    with client(arguments) as connection:
        model = connection.model(arguments.model, timeout=arguments.timeout)
        bench = Bench(connection, model.name, arguments.max_length, arguments.timeout)
        bench.stream(made[:64])  # warms the server up
        rows = [bench.stream([made[number % len(made)] for number in range(arguments.texts)])]
        rows += [bench.calls(calls, concurrency) for concurrency in arguments.concurrency]
        version = connection.server_version(timeout=arguments.timeout)
    if arguments.json:
        about = {"model": model.name, "device": model.device, "compute_type": model.compute_type, "server": version}
        print_json({**about, "results": [asdict(row) for row in rows]}, indent=2)
    else:
        workers = f"{model.workers} worker{'' if model.workers == 1 else 's'}"
        print(f"{model.name} on bertstream {version}: {model.compute_type}, {model.device}, {workers}")
        print(shown_table(HEADER, map(_row, rows), right=range(1, len(HEADER))))
    return 0


def _texts(arguments: argparse.Namespace) -> list[str]:
    from bertstream.cli._measuring import made_up

    given = [] if arguments.source is None else [arguments.source]
    with texts_of(arguments, given) as lines:
        texts = [line.text for line in lines]
    if not texts and reads_lines(arguments, given):
        where = "standard input" if arguments.input in (None, STDIN) else arguments.input
        raise UsageError(f"{where} has no texts")
    return texts or made_up(max(arguments.texts, arguments.calls), arguments.seed, arguments.words)


def _row(measured: Measured) -> tuple[str, ...]:
    latencies = [
        f"{value * 1e3:.1f}" if value is not None else "-" for value in (measured.p50, measured.p95, measured.p99)
    ]
    rates = (f"{measured.texts / measured.seconds:,.1f}", f"{measured.tokens / measured.seconds:,.0f}")
    return (measured.what, f"{measured.texts:,}", f"{measured.seconds:.2f}", *rates, *latencies)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be above 0")
    return number
