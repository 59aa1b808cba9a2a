"""bertstream through gRPC, by its own SDK; the server's address is the option "address"."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import cycle

import grpc
import numpy as np

from benchmarks.peers import Base, Choice, Settings, Vectors
from bertstream.client import Client, Report


class GrpcClient(Base):
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

    def encode_for(self, texts: Sequence[str], seconds: float) -> tuple[float, list[float]]:
        """One stream without an end, for so many seconds: texts a second, and how long each batch computed."""
        reports: list[Report] = []
        stream = self.client.encode_stream(cycle(texts), max_length=self.max_length, report=reports.append)
        end, arrivals = time.monotonic() + seconds, []
        for batch in stream:
            arrivals.append((time.monotonic(), len(batch)))
            if arrivals[-1][0] >= end and len(arrivals) > 1:
                break
        stream.close()
        return rate(arrivals), [each.timings.compute for each in reports if each.timings.compute is not None]

    def close(self) -> None:
        """Close the connections."""
        self.client.close()


def rate(arrivals: Sequence[tuple[float, int]]) -> float:
    """Rows a second of batches that arrived at these times, from the first one on."""
    return sum(rows for _, rows in arrivals[1:]) / (arrivals[-1][0] - arrivals[0][0])


def load(settings: Settings) -> GrpcClient:
    """The adapter."""
    return GrpcClient(settings)
