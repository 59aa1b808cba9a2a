"""bertstream through gRPC, with its own SDK; the option "address" is the server's address."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import cycle

import grpc
import numpy as np

from benchmarks.peers import Choice, Peer, Settings, Vectors
from bertstream.client import Client, Report, Timings

PARTS = ("tokenize", "queue", "compute", "elsewhere", "outside")


class GrpcClient(Peer):
    """The SDK with its defaults: bulk workloads through `encode_stream`, single texts through `encode`."""

    concurrent = True

    def __init__(self, settings: Settings) -> None:
        self.max_length = settings.max_length
        self.client = Client(settings.options["address"])
        self.version = self.client.server_version()

    def versions(self) -> dict[str, str]:
        """Return the versions of the server and of gRPC."""
        return {"bertstream": self.version, "grpcio": grpc.__version__}

    def encode(self, texts: list[str], choice: Choice) -> Vectors:
        """Return the vectors [n, d] of all texts."""
        return np.concatenate([batch.vectors for batch in self.client.encode_stream(texts, max_length=self.max_length)])

    def encode_one(self, texts: list[str]) -> Vectors:
        """Return the vector [1, d] of one text, by a unary call."""
        return self.client.encode(texts, max_length=self.max_length)

    def encode_in_parts(self, texts: list[str]) -> dict[str, float]:
        """Encode one text by a unary call, and return the seconds of each of PARTS."""
        reports: list[Report] = []
        start = time.perf_counter()
        self.client.encode(texts, max_length=self.max_length, report=reports.append)
        return parts_of(time.perf_counter() - start, reports[0].timings)

    def encode_for(self, texts: Sequence[str], lead: float, seconds: float) -> tuple[float, list[float]]:
        """Stream texts endlessly, and return the texts per second after the lead, and the compute time of batches."""
        reports: list[Report] = []
        stream = self.client.encode_stream(cycle(texts), max_length=self.max_length, report=reports.append)
        start, arrivals = time.monotonic() + lead, []
        for batch in stream:
            now = time.monotonic()
            if now >= start:
                arrivals.append((now, len(batch)))
            if now >= start + seconds and len(arrivals) > 1:
                break
        stream.close()
        return rate(arrivals), [each.timings.compute for each in reports if each.timings.compute is not None]

    def close(self) -> None:
        """Close the connections."""
        self.client.close()


def parts_of(seconds: float, timings: Timings) -> dict[str, float]:
    """Return where a call's time went: the server's tokenizer, queue, model, elsewhere in it, and outside of it."""
    known = {name: getattr(timings, name) or 0.0 for name in PARTS[:3]}
    served = timings.total or 0.0
    return known | {"elsewhere": served - sum(known.values()), "outside": seconds - served}


def rate(arrivals: Sequence[tuple[float, int]]) -> float:
    """Return the rows per second of batches that arrived at these times, from the first one on."""
    return sum(rows for _, rows in arrivals[1:]) / (arrivals[-1][0] - arrivals[0][0])


def load(settings: Settings) -> GrpcClient:
    """Return the adapter."""
    return GrpcClient(settings)
