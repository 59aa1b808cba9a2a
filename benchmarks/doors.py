"""Measure what each protocol of the server costs beside the others: the same texts through each of its doors by turns.

    .venv/bin/python -m benchmarks.doors [--model DIR] [--texts 2000] [--calls 100] [--rounds 5]

A real server of one model is asked for vectors of short texts, in bulk and one call after the other. A round takes all
doors, in an order that changes from round to round, so that what else the machine does meets all alike. The last door
is none of the server's: gRPC's own server for asyncio, which answers each message of a stream with a vector that it has
ready, shows what a message costs at the least. The output has medians of all rounds: texts a second, also beside those
of our own protocol in the same round, the processor time of the frontend for a text, which other processes hardly
change, and the time of a call.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import multiprocessing
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import psutil

from benchmarks.processes import PATIENT, Server
from benchmarks.workloads import CORPUS
from bertstream.client import Client
from bertstream.server.protocols.inference import inference_pb2
from bertstream.server.protocols.tei_v1 import tei_pb2
from bertstream.workers.compile.checkpoints import embedded
from bertstream.workers.compile.revisions import default_cache

WIDTH = 384  # of the echo's vectors
BATCH, CONNECTIONS = 64, 4  # texts of a message, or of a request over HTTP, and requests at once
INFER, STREAM_INFER = (f"/inference.GRPCInferenceService/{name}" for name in ("ModelInfer", "ModelStreamInfer"))
EMBED, EMBED_STREAM = "/tei.v1.Embed/Embed", "/tei.v1.Embed/EmbedStream"


@dataclass(frozen=True, slots=True)
class Door:
    """One way in: how a client asks for vectors of many texts, and of one."""

    name: str
    process: psutil.Process  # the one that the client talks to
    bulk: Callable[[Sequence[str]], int]  # returns how many vectors came
    one: Callable[[str], object]


@dataclass(slots=True)
class Figures:
    """What was measured of a door, round by round."""

    texts_per_second: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)  # of the process, for a text
    call_seconds: list[float] = field(default_factory=list)  # of each call


def tei_door(name: str, process: psutil.Process, channel: grpc.Channel) -> Door:
    """Return the door of `tei.v1`, or of whatever answers its messages."""
    write, read = tei_pb2.EmbedRequest.SerializeToString, tei_pb2.EmbedResponse.FromString
    stream = channel.stream_stream(EMBED_STREAM, request_serializer=write, response_deserializer=read)
    unary = channel.unary_unary(EMBED, request_serializer=write, response_deserializer=read)

    def bulk(texts: Sequence[str]) -> int:
        requests = (tei_pb2.EmbedRequest(inputs=text, truncate=True) for text in texts)
        return sum(1 for _ in stream(requests))

    return Door(name, process, bulk, lambda text: unary(tei_pb2.EmbedRequest(inputs=text, truncate=True)))


def inference_door(process: psutil.Process, channel: grpc.Channel, model: str) -> Door:
    """Return the door of the Open Inference Protocol, with a batch of texts a message."""
    write, read = inference_pb2.ModelInferRequest.SerializeToString, inference_pb2.ModelStreamInferResponse.FromString
    stream = channel.stream_stream(STREAM_INFER, request_serializer=write, response_deserializer=read)
    unary = channel.unary_unary(
        INFER, request_serializer=write, response_deserializer=inference_pb2.ModelInferResponse.FromString
    )

    def request(texts: Sequence[str]) -> inference_pb2.ModelInferRequest:
        made = inference_pb2.ModelInferRequest(model_name=model)
        given = made.inputs.add(name="text", datatype="BYTES", shape=[len(texts)])
        given.contents.bytes_contents.extend(text.encode() for text in texts)
        made.outputs.add(name="embeddings")
        return made

    def bulk(texts: Sequence[str]) -> int:
        answers = stream(request(texts[i : i + BATCH]) for i in range(0, len(texts), BATCH))
        return sum(int(answer.infer_response.outputs[0].shape[0]) for answer in answers)

    return Door("inference", process, bulk, lambda text: unary(request([text])))


def http_door(process: psutil.Process, port: int) -> Door:
    """Return the door of OpenAI's API: requests of a batch of texts, a few at a time, by connections of their own."""
    local = threading.local()

    def ask(texts: Sequence[str]) -> int:
        if not hasattr(local, "connection"):
            local.connection = http.client.HTTPConnection("127.0.0.1", port)
        body = json.dumps({"input": list(texts), "encoding_format": "base64"})
        local.connection.request("POST", "/v1/embeddings", body, {"content-type": "application/json"})
        return len(json.loads(local.connection.getresponse().read())["data"])

    callers = ThreadPoolExecutor(CONNECTIONS)

    def bulk(texts: Sequence[str]) -> int:
        return sum(callers.map(ask, (texts[i : i + BATCH] for i in range(0, len(texts), BATCH))))

    return Door("HTTP, OpenAI's", process, bulk, lambda text: ask([text]))


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def own_door(process: psutil.Process, client: Client) -> Door:
    """Return the door of our own protocol, as the SDK uses it."""

    def bulk(texts: Sequence[str]) -> int:
        return sum(len(batch.ids) for batch in client.encode_stream(texts))

    return Door("bertstream.v1", process, bulk, client.encode)


@contextmanager
def echo() -> Iterator[tuple[int, str]]:
    """Run a server that answers each message of `tei.v1` at once, in a process of its own; yield its id and address."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve_echo, args=(theirs,), daemon=True)
    process.start()
    try:
        assert process.pid is not None
        yield process.pid, f"127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


def _serve_echo(connection: Connection) -> None:
    asyncio.run(_echo(connection))


async def _echo(connection: Connection) -> None:
    answer = tei_pb2.EmbedResponse(embeddings=[0.5] * WIDTH)

    async def stream(request_iterator: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        while (await context.read()) is not grpc.aio.EOF:
            await context.write(answer)

    async def unary(request: tei_pb2.EmbedRequest, context: Any) -> tei_pb2.EmbedResponse:
        return answer

    read, write = tei_pb2.EmbedRequest.FromString, tei_pb2.EmbedResponse.SerializeToString
    handlers = {
        "EmbedStream": grpc.stream_stream_rpc_method_handler(
            stream, request_deserializer=read, response_serializer=write
        ),
        "Embed": grpc.unary_unary_rpc_method_handler(unary, request_deserializer=read, response_serializer=write),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("tei.v1.Embed", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    connection.send(port)
    await server.wait_for_termination()


def frontend_of(server: psutil.Process) -> psutil.Process:
    """Return the only frontend of a server. Raises StopIteration where it has none."""
    return next(each for each in server.children() if "frontend-0" in each.cmdline())


def cpu_seconds(process: psutil.Process) -> float:
    """Return the processor time of a process so far."""
    times = process.cpu_times()
    return times.user + times.system


def measure(door: Door, texts: Sequence[str], calls: int, figures: Figures) -> None:
    """Take one round of a door. Raises RuntimeError where answers are missing."""
    before, started = cpu_seconds(door.process), time.perf_counter()
    if (came := door.bulk(texts)) != len(texts):
        raise RuntimeError(f"{door.name}: {came} answers to {len(texts)} texts")
    figures.texts_per_second.append(len(texts) / (time.perf_counter() - started))
    figures.cpu_seconds.append((cpu_seconds(door.process) - before) / len(texts))
    for text in texts[:calls]:
        started = time.perf_counter()
        door.one(text)
        figures.call_seconds.append(time.perf_counter() - started)


def table(figures: dict[str, Figures]) -> str:
    """Return the medians as a table, beside those of the first door."""
    lines = ["| door | texts/s | beside | frontend, CPU ms a text | p50 of a call, ms |", "|---|---|---|---|---|"]
    base = next(iter(figures.values())).texts_per_second
    for name, each in figures.items():
        speed, cpu, call = map(statistics.median, (each.texts_per_second, each.cpu_seconds, each.call_seconds))
        beside = statistics.median(mine / own for mine, own in zip(each.texts_per_second, base, strict=True))
        lines.append(f"| {name} | {speed:.0f} | {beside:.2f} | {cpu * 1e3:.3f} | {call * 1e3:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what the command line says, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=embedded(), help="a checkpoint (default: the embedded one)")
    parser.add_argument("--texts", type=int, default=2000, help="of a bulk request")
    parser.add_argument("--calls", type=int, default=100, help="of a round, one after the other")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    lines = CORPUS.read_text(encoding="utf-8").splitlines()
    texts = [f"{lines[i % len(lines)][:60]} {i}" for i in range(arguments.texts)]
    port = free_port()
    server = Server(arguments.model, ["--frontends", "1", "--http-port", str(port)], default_cache(), PATIENT)
    try:
        with echo() as (pid, address), Client(server.address) as client:
            theirs, nobody = grpc.insecure_channel(server.address), grpc.insecure_channel(address)
            process = frontend_of(psutil.Process(server.pid))
            doors = [own_door(process, client), tei_door("tei.v1", process, theirs)]
            doors += [inference_door(process, theirs, client.model().name), http_door(process, port)]
            doors.append(tei_door("an echo of tei.v1", psutil.Process(pid), nobody))
            figures = {door.name: Figures() for door in doors}
            for door in doors:
                measure(door, texts[:200], 5, Figures())
            for number in range(arguments.rounds):
                order = doors[number % len(doors) :] + doors[: number % len(doors)]
                for door in order:
                    measure(door, texts, arguments.calls, figures[door.name])
    finally:
        server.close()
    print(table(figures))


if __name__ == "__main__":
    main()
