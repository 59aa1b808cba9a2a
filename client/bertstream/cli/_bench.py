"""`bertstream bench`."""

from __future__ import annotations

import argparse
import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np

from bertstream.cli._input import lines
from bertstream.cli._interrupt import check
from bertstream.cli._options import Commands, UsageError, add_model, client, command, numbers
from bertstream.cli._table import table
from bertstream.client import Client, Usage

EXAMPLES = """\
examples:
  bertstream bench                                       made-up texts of everyday lengths, as a stream and one by one
  bertstream bench --texts 10000 --concurrency 1,16
  bertstream bench --words 90                            all texts of 90 words
  bertstream bench - < corpus.txt                        your own texts, a line each

What is measured is what a client sees: run it where your clients run. A server that others use is slower meanwhile."""

# Everyday words, a token or two each.
WORDS = """
the river rose after three days of rain and lower fields are under water let dough rest overnight then bake bread
in a very hot oven night train to coast leaves at ten from platform four telescope found vapour around distant
planet my grandmother keeps bees behind orchard sells their honey market on committee postponed its decision until
auditors have finished report he tuned old piano by ear one string another whole house was key museum reopened
wing with exhibition maps fifteenth century scientists measured how quickly glacier retreats each summer
"""
MU, SIGMA, SHORTEST, LONGEST = 3.7, 0.8, 3, 400  # words of a text: lognormal, about 50 on average
CALLS = 200
HEADER = ("WHAT", "TEXTS", "SECONDS", "TEXTS/S", "TOKENS/S", "P50 MS", "P95 MS", "P99 MS")


@dataclass(frozen=True, slots=True)
class Measured:
    """One row; the latencies are those of calls of one text, and None for a stream."""

    what: str
    concurrency: int  # 0 for a stream
    texts: int
    tokens: int
    seconds: float
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


def add_to(commands: Commands) -> None:
    """Adds the command."""
    parser = command(commands, "bench", run, "measure how fast a server is, as a client sees it", EXAMPLES)
    parser.add_argument("source", nargs="?", choices=["-"], metavar="-", help="take the texts from the lines of stdin")
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
    parser.add_argument("--max-length", type=int, metavar="TOKENS", help="cut texts to so many tokens")
    parser.add_argument("--words", type=_positive, metavar="N", help="words of each text (default: lognormal lengths)")
    parser.add_argument("--seed", type=int, default=0, help="of the made-up texts (default: 0)")


def run(arguments: argparse.Namespace) -> int:
    """Measures and prints."""
    if min(arguments.concurrency) < 1:
        raise UsageError("--concurrency: numbers from 1 on")
    made = _texts(arguments)
    calls = [made[number % len(made)] for number in range(arguments.calls)]
    with client(arguments) as connection:
        model = connection.model(arguments.model, timeout=arguments.timeout)
        bench = Bench(connection, model.name, arguments.max_length, arguments.timeout)
        bench.stream(made[:64])  # nothing is cold after that
        rows = [bench.stream([made[number % len(made)] for number in range(arguments.texts)])]
        rows += [bench.calls(calls, concurrency) for concurrency in arguments.concurrency]
        version = connection.server_version(timeout=arguments.timeout)
    if arguments.json:
        about = {"model": model.name, "device": model.device, "compute_type": model.compute_type, "server": version}
        print(json.dumps({**about, "results": [asdict(row) for row in rows]}, indent=2))
    else:
        workers = f"{model.workers} worker{'' if model.workers == 1 else 's'}"
        print(f"{model.name} on bertstream {version}: {model.compute_type}, {model.device}, {workers}")
        print(table(HEADER, map(_row, rows), right=range(1, len(HEADER))))
    return 0


class Bench:
    """Measures one model of a server."""

    def __init__(self, connection: Client, model: str, max_length: int | None, timeout: float | None) -> None:
        self._client, self._model, self._max_length, self._timeout = connection, model, max_length, timeout

    def stream(self, texts: Sequence[str]) -> Measured:
        """All texts through one stream."""
        used: list[Usage] = []
        start = time.perf_counter()
        batches = self._client.encode_stream(
            texts,
            model=self._model,
            max_length=self._max_length,
            timeout=self._timeout,
            report=lambda report: used.append(report.usage),
        )
        answered = 0
        for batch in batches:
            check()
            answered += len(batch)
        return Measured("stream", 0, answered, sum(use.tokens for use in used), time.perf_counter() - start)

    def calls(self, texts: Sequence[str], concurrency: int) -> Measured:
        """A call a text, so many at once."""
        used: list[Usage] = []

        def call(text: str) -> float:
            start = time.perf_counter()
            self._client.encode(
                text,
                model=self._model,
                max_length=self._max_length,
                timeout=self._timeout,
                report=lambda report: used.append(report.usage),
            )
            return time.perf_counter() - start

        start = time.perf_counter()
        latencies = each(call, texts, concurrency)
        seconds = time.perf_counter() - start
        p50, p95, p99 = (float(value) for value in np.percentile(latencies, [50, 95, 99], method="inverted_cdf"))
        what = f"{concurrency} call{'s' if concurrency > 1 else ''} at once"
        return Measured(what, concurrency, len(texts), sum(use.tokens for use in used), seconds, p50, p95, p99)


def each(call: Callable[[str], float], texts: Sequence[str], threads: int) -> list[float]:
    """The call's answers for all texts, by so many threads, each of which takes the next one."""
    waiting, lock = iter(texts), threading.Lock()

    def lane() -> Iterator[float]:
        while True:
            check()
            with lock:
                text = next(waiting, None)
            if text is None:
                return
            yield call(text)

    if threads == 1:
        return list(lane())
    with ThreadPoolExecutor(threads) as pool:
        lanes = [pool.submit(lambda: list(lane())) for _ in range(threads)]
        return [seconds for each_lane in lanes for seconds in each_lane.result()]


def made_up(count: int, seed: int, length: int | None) -> list[str]:
    """Texts of real words in any order, of so many words each, or of lognormal lengths."""
    generator = random.Random(seed)
    lengths = [length or _length(generator) for _ in range(count)]
    words = WORDS.split()
    return [" ".join(generator.choices(words, k=length)) for length in lengths]


def _length(generator: random.Random) -> int:
    return min(LONGEST, max(SHORTEST, round(generator.lognormvariate(MU, SIGMA))))


def _texts(arguments: argparse.Namespace) -> list[str]:
    if arguments.source is None:
        return made_up(max(arguments.texts, arguments.calls), arguments.seed, arguments.words)
    texts = list(lines())
    if not texts:
        raise UsageError("standard input has no texts")
    return texts


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
