"""Measure the time and memory of a frontend's process during and after a bulk stream, with and without malloc settings.

    .venv/bin/python -m benchmarks.frontend [--pairs 5] [--messages 2000] [--set MALLOC_TRIM_THRESHOLD_=16777216 ...]

gRPC and the frames of IPC are real, but the worker has its answers ready, and ids take the place of texts, so that
nothing else is measured. Runs with and without the settings take turns, each in a new process. The output has the
process's own time and its page faults, which other processes hardly change, and its memory at the peak and when idle.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import grpc.aio
import numpy as np
from tokenizers import Tokenizer, models

from bertstream.server.core.gate import Gate
from bertstream.server.core.keys import Keys
from bertstream.server.core.models import Models, ServedModel
from bertstream.server.frontend import links, transport
from bertstream.server.protocols.bertstream_v1.services.encoding import EncodingService
from bertstream.server.protocols.rpc import add_service, handlers_of
from bertstream.server.settings import ConnectionLimits, FrontendSettings, Limits, ModelSettings
from bertstream.server.supervisor.launching import FRONTEND_MALLOC
from bertstream.v1 import encoding_pb2, types_pb2
from bertstream.workers import ipc
from bertstream.workers.contract import Hello, Result, Work
from bertstream.workers.programs.description import DefaultPooling, ModelDescription
from bertstream.workers.trust.ownership import make_folder
from bertstream.workers.trust.seal import seal

TEXTS, TOKENS, WIDTH = 256, 8, 384  # of a message of the bulk stream: answers of 390 KB
LARGE_TEXTS, LARGE_TOKENS, LARGE_CALLS = 2500, 400, 32  # messages of 1 MB and answers of 3.8 MB, all at once
IDLE_SECONDS = 3.0
SERVICE = encoding_pb2.DESCRIPTOR.services_by_name["EncodingService"]
LIMITS = Limits(4096, 8 << 20, 128 << 20, 4_000_000, 4096, 262_144, 32 << 20, 1024)


def description() -> ModelDescription:
    """Return the description of an encoder of WIDTH that does not exist."""
    pooling = DefaultPooling("mean", normalize=True)
    named = {"revision": "0", "family": "bert", "architecture": "BertModel", "compute_type": "float32"}
    sizes = {"layers": 6, "hidden_size": WIDTH, "attention_heads": 12, "vocabulary_size": 100}
    lengths = {"type_vocabulary_size": 2, "max_tokens": 512, "default_max_length": 512}
    values: dict[str, Any] = {**named, **sizes, **lengths, "device": "cpu", "prompts": {}}
    return ModelDescription(**values, has_pooler=False, native_operators=False, default_pooling=pooling)


async def serve(folder: Path) -> None:
    """Serve as a frontend does, and print for each line of input what this process has used."""
    settings = ModelSettings("stub", str(folder / "model"), (str(folder / "worker"),), 1 << 30)
    frontend = FrontendSettings("frontend-0", "127.0.0.1", 0, "0", (settings,), LIMITS, 2, 1.0, 30.0, "error")
    model = ServedModel(settings, frontend, ThreadPoolExecutor(3), lambda: None)
    server = grpc.aio.server(
        interceptors=(links.chain(Gate(1024), Keys()),), options=transport.arguments(LIMITS, ConnectionLimits())
    )
    add_service(server, SERVICE, handlers_of(EncodingService(Models([model])), SERVICE), LIMITS.max_request_bytes)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await model.dispatcher.wait_live()
    print(port, flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(await asyncio.to_thread(own_use)), flush=True)


def own_use() -> dict[str, float]:
    """Return the seconds and page faults of this process so far, and bytes of its memory."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    memory = {name: int(status[key].split()[0]) << 10 for name, key in (("peak", "VmHWM"), ("now", "VmRSS"))}
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    return {"seconds": time.process_time(), "faults": faults} | memory


def answer_works(listening: socket.socket, running: Path) -> None:
    """Act as a worker that has every answer ready."""
    connection, _ = listening.accept()
    with connection, connection.makefile("rb") as reader:
        connection.sendall(b"".join(ipc.encode(Hello("worker-0", os.getpid(), 1, 1 << 20, 1 << 20, str(running)))))
        while prelude := reader.read(ipc.PRELUDE.size):
            message = ipc.decode(prelude, bytearray(reader.read(ipc.frame_size(prelude))))
            if isinstance(message, Work):
                vectors = np.full((message.batch.lengths.size, WIDTH), 0.5, np.float32)
                connection.sendall(b"".join(ipc.encode(Result(message.id, {"pooled": vectors}, 0.0, 0.0))))


@contextmanager
def frontend(environment: Mapping[str, str]) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run a frontend's process with these variables, and provide its address and the process."""
    with TemporaryDirectory() as name, socket.socket(socket.AF_UNIX) as listening, ThreadPoolExecutor(1) as threads:
        folder = Path(name)
        compiled = folder / "model"
        make_folder(compiled)
        description().save(compiled)
        Tokenizer(models.WordLevel({"[UNK]": 0}, "[UNK]")).save(str(compiled / "tokenizer.json"))
        seal(compiled)
        listening.bind(str(folder / "worker"))
        listening.listen()
        threads.submit(answer_works, listening, folder / "running")
        command = [sys.executable, "-m", "benchmarks.frontend", "--serve", name]
        own, pipe = {**os.environ, **environment}, subprocess.PIPE
        with subprocess.Popen(command, env=own, text=True, stdin=pipe, stdout=pipe) as process:
            assert process.stdout is not None
            yield f"127.0.0.1:{int(process.stdout.readline())}", process
            process.kill()


def used(process: subprocess.Popen[str]) -> dict[str, float]:
    """Ask the frontend what it has used so far."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    use: dict[str, float] = json.loads(process.stdout.readline())
    return use


def batch(texts: int, tokens: int) -> types_pb2.TextBatch:
    """Return texts as token ids."""
    ids = types_pb2.TokenIdLists(token_ids=np.full(texts * tokens, 7).tolist(), lengths=[tokens] * texts)
    return types_pb2.TextBatch(token_ids=ids)


def stream(address: str, messages: int) -> None:
    """Send messages in one bulk stream, and read all answers."""
    items = encoding_pb2.StreamEncodingsRequest(items=encoding_pb2.EncodingItems(inputs=batch(TEXTS, TOKENS)))
    raw = [encoding_pb2.StreamEncodingsRequest(options=encoding_pb2.EncodingOptions()).SerializeToString()]
    raw += [items.SerializeToString()] * messages
    with grpc.insecure_channel(address) as channel:
        rpc: Any = channel.stream_stream(f"/{SERVICE.full_name}/StreamEncodings")
        assert sum(1 for _ in rpc(iter(raw))) == messages + 1


def flood(address: str) -> None:
    """Send large calls, all at once."""
    raw = encoding_pb2.EncodeTextsRequest(inputs=batch(LARGE_TEXTS, LARGE_TOKENS)).SerializeToString()
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(address, options) as channel:
        rpc: Any = channel.unary_unary(f"/{SERVICE.full_name}/EncodeTexts")
        for future in [rpc.future(raw) for _ in range(LARGE_CALLS)]:
            future.result()


def measure(environment: Mapping[str, str], messages: int) -> dict[str, float]:
    """Return microseconds and page faults per message, and MiB at the peak and after a bulk stream and a flood."""
    with frontend(environment) as (address, process):
        stream(address, messages // 10)
        before = used(process)
        stream(address, messages)
        after = used(process)
        flood(address)
        flooded = used(process)
        time.sleep(IDLE_SECONDS)
        idle = used(process)
    return {
        "µs": (after["seconds"] - before["seconds"]) / messages * 1e6,
        "faults": (after["faults"] - before["faults"]) / messages,
        "bulk peak": after["peak"] / (1 << 20),
        "bulk after": after["now"] / (1 << 20),
        "flood peak": flooded["peak"] / (1 << 20),
        "flood after": idle["now"] / (1 << 20),
    }


def compare(settings: Mapping[str, str], pairs: int, messages: int) -> None:
    """Print a line for each run, without and with the settings in turn."""
    print(" ".join(f"{name}={value}" for name, value in settings.items()))
    for _ in range(pairs):
        for name, environment in (("without", {}), ("with", settings)):
            found = measure(environment, messages)
            print(f"{name:8}", "  ".join(f"{key} {value:7.1f}" for key, value in found.items()), flush=True)


def main() -> None:
    """Compare runs with and without the settings of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--set", nargs="+", metavar="NAME=VALUE", help="default: what bertstream serve sets")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        asyncio.run(serve(chosen.serve))
        return
    settings = dict(each.split("=", 1) for each in chosen.set) if chosen.set else FRONTEND_MALLOC
    compare(settings, chosen.pairs, chosen.messages)


if __name__ == "__main__":
    main()
