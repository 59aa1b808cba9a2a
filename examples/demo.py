"""Start a real server, tokenize and encode a page of text with it, and stop it: `make demo`.

All printed numbers are measured while it runs. It needs `bertstream[server,demo]`.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median

import grpc
import numpy as np
from numpy.typing import NDArray

from bertstream.client import BertstreamError, Client, Layer, Progress
from bertstream.v1 import encoding_pb2, encoding_pb2_grpc, types_pb2

Vectors = NDArray[np.floating]

BULK_TEXTS = 2000
TIMED_CALLS = 15
STOP_SECONDS = 45.0

ODD = "Naïve readers say 水 for “water” 🙂"
ENGLISH = [
    "The river rose after three days of rain, and the lower fields are under water.",
    "Heavy rain has flooded the meadows beside the stream.",
    "Let the dough rest overnight, then bake the bread in a very hot oven.",
    "A crisp loaf of bread needs steam and high heat.",
    "The night train to the coast leaves at ten from platform four.",
    "Passengers for the late train to the sea should go to platform four.",
    "The telescope found water vapour around a distant planet.",
    "Astronomers have seen clouds of steam on a world far from our sun.",
]
LATIN = [
    "Beethoven composed nine symphonies and one opera.",
    "Beethoven komponierte neun Sinfonien und eine Oper.",
    "Beethoven a composé neuf symphonies et un opéra.",
    "Beethoven compuso nueve sinfonías y una ópera.",
    "Astronomers discovered a planet with the telescope.",
    "Astronomen entdeckten mit dem Teleskop einen Planeten.",
    "Des astronomes ont découvert une planète avec le télescope.",
    "Los astrónomos descubrieron un planeta con el telescopio.",
]
# For each language: a flood, the same flood in other words, and bread.
LANGUAGES = {
    "English": (ENGLISH[0], ENGLISH[1], ENGLISH[2]),
    "German": (
        "Nach drei Tagen Regen steht das Wasser des Flusses auf den Wiesen.",
        "Der Regen hat den Fluss über die Ufer treten lassen, die Wiesen stehen unter Wasser.",
        "Der Teig ruht über Nacht und wird dann sehr heiß gebacken.",
    ),
    "French": (
        "Après trois jours de pluie, la rivière a inondé les champs.",
        "La pluie a fait déborder la rivière, et les champs sont sous l'eau.",
        "Laissez reposer la pâte une nuit, puis faites-la cuire dans un four très chaud.",
    ),
    "Spanish": (
        "Tras tres días de lluvia, el río inundó los campos.",
        "La lluvia desbordó el río y los campos están bajo el agua.",
        "Deja reposar la masa toda la noche y hornéala a fuego muy fuerte.",
    ),
    "Russian": (
        "После трёх дней дождя река затопила поля.",
        "Из-за дождя река вышла из берегов, и поля под водой.",
        "Оставьте тесто на ночь, а потом выпекайте в очень горячей печи.",
    ),
    "Chinese": (
        "下了三天雨，河水淹没了田地。",
        "大雨过后，河边的田地都在水里。",
        "面团静置一夜，然后放进很热的烤箱里烤。",
    ),
    "Arabic": (
        "فاض النهر بعد ثلاثة أيام من المطر.",
        "بعد المطر فاض النهر وغمر الحقول.",
        "اخبز الخبز في فرن ساخن جدا.",
    ),
}


def main() -> int:
    """Run the demo, and return its exit code: 1 if the server or a call fails, 130 after Ctrl-C."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        with running_server() as address, Client(address) as client:
            show_tokens(client)
            show_similarities(client)
            show_languages(client)
            show_shapes(client)
            show_layers(client)
            show_throughput(client)
            show_timings(address)
    except KeyboardInterrupt:
        return 130
    except (BertstreamError, ServerFailed) as error:
        print(f"demo: error: {error}", file=sys.stderr)
        return 1
    return 0


class ServerFailed(Exception):
    """The server did not start, or did not stop cleanly."""


@contextmanager
def running_server() -> Iterator[str]:
    """Run a server, and provide its address; it is stopped at the end in any case."""
    print("Starting the server (the first time, it compiles the model)", flush=True)
    command = [sys.executable, "-m", "bertstream.cli", "serve", "--port", "0", "--log-level", "warning"]
    passed_on = ("BERTSTREAM_CACHE", "BERTSTREAM_NATIVE")  # your other settings are meant for your servers
    variables = {
        name: value for name, value in os.environ.items() if name in passed_on or not name.startswith("BERTSTREAM_")
    }
    started = time.monotonic()
    # In its own process group, so that Ctrl-C reaches only this process, which then stops the server.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables, process_group=0)
    try:
        yield ready_address(process, started)
    finally:
        stop(process)


def ready_address(process: subprocess.Popen[str], started: float) -> str:
    """Wait for the line that the server prints when it is ready, and return its address."""
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    ready = re.search(r" ready on (\S+)", line)
    if ready is None:
        raise ServerFailed("the server did not start")
    print(f"{line}\n  ready after {time.monotonic() - started:.1f} s, process {process.pid}")
    return ready[1]


def stop(process: subprocess.Popen[str]) -> None:
    """Stop the server, which drains and ends its workers."""
    started = time.monotonic()
    process.terminate()
    try:
        code = process.wait(STOP_SECONDS)
    except BaseException:
        process.kill()  # its workers and its frontend notice, and end too
        raise
    print(f"\nThe server stopped in {time.monotonic() - started:.1f} s with exit code {code}")
    if code != 0 and sys.exc_info()[0] is None:
        raise ServerFailed(f"the server ended with exit code {code}")


def show_tokens(client: Client) -> None:
    """Print the tokens, ids and offsets of one text."""
    tokens = client.tokenize([ODD])[0]
    heading(f"Tokens of: {ODD}")
    print(f"  {'#':>2}  {'id':>5}  {'start':>5}  {'end':>3}  {pad('token', 9)}  text")
    for index, (token, token_id) in enumerate(zip(tokens.tokens, tokens.token_ids, strict=True)):
        start, end = tokens.offsets[index]
        print(f"  {index:2}  {token_id:5}  {start:5}  {end:3}  {pad(token, 9)}  {ODD[start:end]}".rstrip())


def show_similarities(client: Client) -> None:
    """Print which texts are about the same subject, in English, and across languages that share words."""
    heading("Cosine similarity of English texts: four subjects, two texts each")
    print_matrix(ENGLISH, client.encode(ENGLISH), subjects=[0, 0, 1, 1, 2, 2, 3, 3])
    heading("The same in four languages: two subjects, whose names and terms the languages share")
    print_matrix(LATIN, client.encode(LATIN), subjects=[0, 0, 0, 0, 1, 1, 1, 1])


def print_matrix(texts: Sequence[str], vectors: Vectors, subjects: Sequence[int]) -> None:
    """Print the similarities of all pairs, and how often the nearest other text has the same subject."""
    similarities = vectors @ vectors.T
    print("    " + "".join(f"{column:6}" for column in range(1, len(texts) + 1)))
    for row, text in enumerate(texts):
        cells = "".join(f"{value:6.2f}" for value in similarities[row])
        print(f"  {row + 1:2}{cells}  {text if len(text) <= 60 else text[:59] + '…'}")
    nearest = (similarities - 2 * np.eye(len(texts))).argmax(axis=1)
    hits = sum(subjects[row] == subjects[other] for row, other in enumerate(nearest.tolist()))
    print(f"  The nearest other text is of the same subject for {hits} of {len(texts)}.")


def show_languages(client: Client) -> None:
    """Print the similarity of a text to a paraphrase and to another subject, within each language."""
    heading("Within one language: a flood, the same flood in other words, and bread")
    print("            flood, flood  flood, bread  tokens  the first text")
    for language, texts in LANGUAGES.items():
        first, same, other = client.encode(list(texts))
        tokens = len(client.tokenize([texts[0]], columns=["offsets"])[0])
        print(f"  {language:9} {first @ same:12.2f} {first @ other:13.2f} {tokens:7}  {texts[0]}")
    print("  This small model was trained on English: the farther from it, the closer together everything is.")


def show_shapes(client: Client) -> None:
    """Print the other outputs, and the shapes of their arrays."""
    heading("Outputs of one call for the first two texts")
    all_of_them = client.forward(ENGLISH[:2], ["pooled", "pooler_output", "hidden_states", "attentions"])
    for text, outputs in zip(ENGLISH, all_of_them, strict=False):
        print(f"  {text}")
        for name in ("pooled", "pooler_output", "hidden_states", "attentions"):
            found = getattr(outputs, name)
            arrays = list(found.values()) if isinstance(found, dict) else [found]
            layers = f"{len(arrays)} layers of " if isinstance(found, dict) else ""
            print(f"    {name:13} {arrays[0].dtype} {layers}{list(arrays[0].shape)}")


def show_layers(client: Client) -> None:
    """Print when each layer arrives, while the server computes the next."""
    text = " ".join(ENGLISH)
    heading("The layers of all eight English texts in one, as they come")
    started = time.perf_counter()
    for event in client.stream_layers(text):
        if isinstance(event, Layer):
            milliseconds = (time.perf_counter() - started) * 1e3
            print(f"  after {milliseconds:5.1f} ms: layer {event.layer} {list(event.array.shape)}")


def show_throughput(client: Client) -> None:
    """Encode a corpus through one bidirectional stream, in order and in constant memory."""
    heading(f"Streaming {BULK_TEXTS:,} texts of one or two sentences through encode_stream")
    reports: list[Progress] = []
    rows = sum(len(batch) for batch in client.encode_stream(corpus(BULK_TEXTS), progress=reports.append))
    last = reports[-1]
    print(f"  {rows:,} vectors, {last.tokens:,} tokens, {last.seconds:.1f} s")
    print(f"  {last.texts_per_second:,.0f} texts/s, {last.tokens_per_second:,.0f} tokens/s")


def corpus(size: int) -> Iterator[str]:
    """Yield texts that are made when they are needed, so that they are never all in memory."""
    chance = random.Random(7)
    for number in range(size):
        yield f"{number}. " + " ".join(chance.sample(ENGLISH, chance.randint(1, 2)))


def show_timings(address: str) -> None:
    """Print where the time of a call goes, according to its response. The generated stubs suffice for that."""
    heading(f"Where a call's time goes, in ms (median of {TIMED_CALLS} calls; round trip as this process sees it)")
    print("  texts  tokens  tokenize  queue  compute  server total  round trip")
    with grpc.insecure_channel(address) as channel:
        stub = encoding_pb2_grpc.EncodingServiceStub(channel)
        for texts in (1, 8, 32):
            print_timings(stub, list(corpus(texts)))


def print_timings(stub: encoding_pb2_grpc.EncodingServiceStub, texts: list[str]) -> None:
    """Print one line of the table."""
    inputs = types_pb2.TextBatch(texts=types_pb2.Texts(texts=texts))
    request = encoding_pb2.EncodeTextsRequest(inputs=inputs)
    measured = []
    for _ in range(TIMED_CALLS):
        started = time.perf_counter()
        response = stub.EncodeTexts(request, timeout=30)
        round_trip, timings = time.perf_counter() - started, response.timings
        parts = (timings.tokenize, timings.queue, timings.compute, timings.total)
        measured.append([*(part.seconds + part.nanos / 1e9 for part in parts), round_trip])
    tokenize, queue, compute, total, trip = (median(column) * 1e3 for column in zip(*measured, strict=True))
    numbers = f"{tokenize:8.2f}  {queue:5.2f}  {compute:7.2f}  {total:12.2f}  {trip:10.2f}"
    print(f"  {len(texts):5}  {response.usage.tokens:6}  {numbers}")


def heading(text: str) -> None:
    """Print a title below an empty line."""
    print(f"\n{text}")


def pad(text: str, columns: int) -> str:
    """Return the text with spaces to fill the columns of a terminal, on which some characters take two."""
    return text + " " * (columns - sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text))


if __name__ == "__main__":
    sys.exit(main())
