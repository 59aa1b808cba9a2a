"""bertstream through gRPC, by its own SDK; the server's address is the option "address"."""

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
    """Bulk through `encode_stream`, single texts through `encode`, both as the SDK does by default."""

    concurrent = True

    def __init__(self, settings: Settings) -> None:
        self.max_length = settings.max_length
        self.client = Client(settings.options["address"])
        self.version = self.client.server_version()

    def versions(self) -> dict[str, str]:
        """Of the server and of gRPC."""
        return {"bertstream": self.version, "grpcio": grpc.__version__}

    def encode(self, texts: list[str], choice: Choice) -> Vectors:
        """All texts. -> [n, d]"""
        return np.concatenate([batch.vectors for batch in self.client.encode_stream(texts, max_length=self.max_length)])

    def encode_one(self, texts: list[str]) -> Vectors:
        """One text, as a call of its own. -> [1, d]"""
        return self.client.encode(texts, max_length=self.max_length)

    def encode_in_parts(self, texts: list[str]) -> dict[str, float]:
        """One text, as a call of its own: seconds of each of PARTS."""
        reports: list[Report] = []
        start = time.perf_counter()
        self.client.encode(texts, max_length=self.max_length, report=reports.append)
        return parts_of(time.perf_counter() - start, reports[0].timings)

    def encode_for(self, texts: Sequence[str], lead: float, seconds: float) -> tuple[float, list[float]]:
        """One endless stream: texts a second for so many seconds after the lead, and how long batches computed."""
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
    """Where a call's time went: in the server's tokenizer, queue, model and elsewhere there, and outside of it."""
    known = {name: getattr(timings, name) or 0.0 for name in PARTS[:3]}
    served = timings.total or 0.0
    return known | {"elsewhere": served - sum(known.values()), "outside": seconds - served}


def rate(arrivals: Sequence[tuple[float, int]]) -> float:
    """Rows a second of batches that arrived at these times, from the first one on."""
    return sum(rows for _, rows in arrivals[1:]) / (arrivals[-1][0] - arrivals[0][0])


def load(settings: Settings) -> GrpcClient:
    """The adapter."""
    return GrpcClient(settings)
