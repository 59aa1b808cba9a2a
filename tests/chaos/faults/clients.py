"""Clients that go without a word, do not read, do not write, or come in thousands."""

from __future__ import annotations

import contextlib
import itertools
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import grpc

from bertstream.v1 import encoding_pb2, encoding_pb2_grpc, types_pb2
from tests.chaos import calls
from tests.chaos.faults.fault import Fault
from tests.chaos.load import ROOT
from tests.chaos.scene import CONNECTIONS, FRONTENDS, Scene, open_files, promise, resident, wait_for

MOST_BYTES = 256 << 20  # that all frontends together may take for clients that do not read
MOST_CONNECTIONS = 10_000
_VANISHING = 3
_BUSY = """
import itertools, sys
from bertstream.client import Client
client = Client(sys.argv[1])
for batch in client.encode_stream(itertools.repeat("the quick brown fox"), model=sys.argv[2], batch_size=8):
    print(len(batch.ids), flush=True)
"""


def clients_vanish(scene: Scene) -> None:
    """Kill client processes in the middle of their streams."""
    command = [sys.executable, "-c", _BUSY, scene.server.address, calls.ENCODER]
    clients = [subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) for _ in range(_VANISHING)]
    for each in clients:
        assert each.stdout is not None
        each.stdout.readline()
    for each in clients:
        each.kill()
        each.communicate()


def client_reads_nothing(scene: Scene) -> None:
    """Ask for answers of many megabytes, and take none of them."""
    options = encoding_pb2.EncodingOptions(model=calls.FAULTY, outputs=[encoding_pb2.ENCODING_OUTPUT_LAST_HIDDEN_STATE])
    ids = types_pb2.TokenIdLists(token_ids=[60] * 500 * 64, lengths=[500] * 64)  # of which the states are 4.6 MB

    def requests() -> Iterator[encoding_pb2.StreamEncodingsRequest]:
        yield encoding_pb2.StreamEncodingsRequest(options=options)
        for number in range(10_000):
            items = encoding_pb2.EncodingItems(first_id=number * 64, inputs=types_pb2.TextBatch(token_ids=ids))
            yield encoding_pb2.StreamEncodingsRequest(items=items)

    before = resident(scene.frontends)
    with grpc.insecure_channel(scene.server.address) as channel:
        call = encoding_pb2_grpc.EncodingServiceStub(channel).StreamEncodings(requests())
        next(call)
        time.sleep(6)
        grown = resident(scene.frontends) - before
        call.cancel()
    promise(grown < MOST_BYTES, f"a client that reads nothing cost {grown >> 20} MiB")


def client_sends_nothing(scene: Scene) -> None:
    """Open streams, and send nothing over them."""

    def nothing() -> Iterator[encoding_pb2.StreamEncodingsRequest]:
        time.sleep(6)
        yield encoding_pb2.StreamEncodingsRequest(options=encoding_pb2.EncodingOptions(model=calls.ENCODER))

    with grpc.insecure_channel(scene.server.address) as channel:
        stub = encoding_pb2_grpc.EncodingServiceStub(channel)
        streams = [stub.StreamEncodings(nothing()) for _ in range(50)]
        promise(all(next(each).HasField("started") for each in streams), "a silent stream was not taken up again")
        for each in streams:
            each.cancel()


def many_connections(scene: Scene) -> None:
    """Open as many connections as files may be opened, which is more than there may be."""
    host, _, port = scene.server.address.rpartition(":")
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(MOST_CONNECTIONS, soft - 256)
    files = open_files(scene.frontends)
    with contextlib.ExitStack() as stack:
        for number in range(count):
            stack.enter_context(socket.create_connection((host, int(port)), timeout=60))
            if number % 500 == 499:
                time.sleep(0.1)
        time.sleep(3)
        held = open_files(scene.frontends) - files
        most = FRONTENDS * CONNECTIONS
        promise(held <= most, f"{held} connections were held, of at most {most}")
    wait_for(lambda: open_files(scene.frontends) < files + 50, "descriptors to be closed")


def connections_come_and_go(scene: Scene) -> None:
    """Connect and hang up, a thousand times."""
    host, _, port = scene.server.address.rpartition(":")
    files = open_files(scene.frontends)
    for _ in itertools.repeat(None, 1000):
        socket.create_connection((host, int(port)), timeout=60).close()
    wait_for(lambda: open_files(scene.frontends) < files + 50, "descriptors to be closed")


FAULTS = (
    Fault("clients vanish", clients_vanish),
    Fault("client reads nothing", client_reads_nothing),
    Fault("client sends nothing", client_sends_nothing),
    Fault("many connections", many_connections),
    Fault("connections come and go", connections_come_and_go, quick=True),
)
