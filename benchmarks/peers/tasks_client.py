"""bertstream's heads, generation and layers through gRPC, by its own SDK; the option "address" is the server's.

The option "use" says what is asked: "fill_mask", "entities", "answer", "rerank", "generate" or "layers".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import grpc
import numpy as np

from benchmarks.peers import Choice, Peer, Settings, Vectors
from bertstream.client import Client

NOTHING = np.empty((0, 0), np.float32)


class TasksClient(Peer):
    """The SDK with its defaults: streams of many texts, and calls of a few to generate and for layers."""

    def __init__(self, settings: Settings) -> None:
        self.options = settings.options
        self.together, self.tokens = int(self.options["together"]), int(self.options["tokens"])
        self.client = Client(self.options["address"])
        self.version = self.client.server_version()

    def versions(self) -> dict[str, str]:
        """Return the versions of the server and of gRPC."""
        return {"bertstream": self.version, "grpcio": grpc.__version__}

    def ready(self, texts: list[Any]) -> Any:
        """Return texts, or pairs as tuples."""
        return [text if isinstance(text, str) else tuple(text) for text in texts]

    def encode(self, texts: Any, choice: Choice) -> Vectors:
        """Have all of it done, and drop the answers."""
        use = self.options["use"]
        if use == "generate":
            self._generate(texts)
        elif use == "layers":
            for some in parts_of(texts, self.together):
                exhaust(self.client.stream_layers(some))
        else:
            exhaust(self.client.predict_stream(use, texts))  # type: ignore[call-overload]  # by a name from outside
        return NOTHING

    def _generate(self, texts: Sequence[str]) -> None:
        for some in parts_of(texts, self.together):
            self.client.generate(
                some,
                max_new_tokens=self.tokens,
                min_new_tokens=self.tokens,
                num_beams=int(self.options["beams"]),
                do_sample=False,
            )

    def close(self) -> None:
        """Close the connections."""
        self.client.close()


def parts_of(texts: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """Return the texts in parts of a size."""
    return [texts[start : start + size] for start in range(0, len(texts), size)]


def exhaust(stream: Iterable[object]) -> None:
    """Read a stream to its end."""
    for _ in stream:
        pass


def load(settings: Settings) -> TasksClient:
    """Return the adapter."""
    return TasksClient(settings)
