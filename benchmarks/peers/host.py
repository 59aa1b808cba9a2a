"""The process of one adapter: it reads commands as lines of JSON, and writes measurements.

Run it as `python -m benchmarks.peers.host '{…}'` with the fields of Settings.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from benchmarks.peers import Choice, Peer, Settings
from benchmarks.peers.timing import concurrently, paced

Answer = dict[str, Any]


class Host:
    """One peer, its texts, and the commands that it answers."""

    def __init__(self, settings: Settings) -> None:
        self.peer: Peer = importlib.import_module(f"benchmarks.peers.{settings.adapter}").load(settings)
        self._texts: dict[str, Any] = {}

    def hello(self) -> Answer:
        """Return the first answer, once the model is loaded."""
        return {"versions": self.peer.versions(), "choices": [asdict(choice) for choice in self.peer.choices()]}

    def texts(self, name: str, texts: list[str]) -> Answer:
        """Take the texts of a workload."""
        self._texts[name] = self.peer.ready(texts)
        return {}

    def settle(self, choices: list[dict[str, int]]) -> Answer:
        """Use only these choices from now on."""
        self.peer.settle([Choice(**choice) for choice in choices])
        return {}

    def bulk(self, name: str, choice: dict[str, int]) -> Answer:
        """Encode all texts, and return start and end by a clock that all processes share."""
        texts, how = self._texts[name], Choice(**choice)
        start = time.monotonic()
        self.peer.encode(texts, how)
        return {"start": start, "end": time.monotonic()}

    def unary(self, name: str, concurrency: int) -> Answer:
        """Encode each text by its own call, and return the latency of each."""
        if concurrency > 1 and not self.peer.concurrent:
            raise ValueError("takes one call at a time")
        calls = [partial(self.peer.encode_one, [text]) for text in self._texts[name]]
        start = time.monotonic()
        latencies = concurrently(calls, concurrency)
        return {"latencies": latencies, "seconds": time.monotonic() - start}

    def paced(self, name: str, seconds: float, rate: float, seed: int) -> Answer:
        """Encode single texts at random times for `seconds`.

        The answer has the latency of each, counted from when it was due, and where each call's time went.
        """
        parts: list[dict[str, float]] = []

        def call(text: Any) -> None:
            parts.append(self.peer.encode_in_parts([text]))  # type: ignore[attr-defined]  # servers only

        calls = [partial(call, text) for text in self._texts[name]]
        return {"latencies": paced(calls, seconds, rate, seed), "parts": parts}

    def bulk_for(self, name: str, lead: float, seconds: float) -> Answer:
        """Encode texts again and again, and return texts per second after the lead, and compute times of batches."""
        found = self.peer.encode_for(self._texts[name], lead, seconds)  # type: ignore[attr-defined]  # streams only
        return dict(zip(("rate", "compute"), found, strict=True))

    def vectors(self, name: str, choice: dict[str, int], path: str) -> Answer:
        """Save the vectors of all texts to a file."""
        np.save(path, np.asarray(self.peer.encode(self._texts[name], Choice(**choice)), np.float32))
        return {}


def main() -> int:
    """Answer commands until standard input ends."""
    # Libraries may print to standard output, so the answers go to a copy of it, and their output to standard error.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def send(answer: Answer) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    try:
        host = Host(Settings(**json.loads(sys.argv[1])))
        send(host.hello())
    except Exception as error:
        send({"error": reason(error)})
        return 1
    for line in sys.stdin:
        command = json.loads(line)
        try:
            send(getattr(host, command.pop("do"))(**command))
        except Exception as error:
            send({"error": reason(error)})
    host.peer.close()
    return 0


def reason(error: BaseException) -> str:
    """Return an error in one line."""
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
