"""The process in which one adapter runs: commands as lines of JSON come in, measurements go out.

Run as `python -m benchmarks.peers.host '{…}'` with the fields of Settings.
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
    """One peer, its texts, and what can be asked of it."""

    def __init__(self, settings: Settings) -> None:
        self.peer: Peer = importlib.import_module(f"benchmarks.peers.{settings.adapter}").load(settings)
        self._texts: dict[str, Any] = {}

    def hello(self) -> Answer:
        """Say that the model is loaded."""
        return {"versions": self.peer.versions(), "choices": [asdict(choice) for choice in self.peer.choices()]}

    def texts(self, name: str, texts: list[str]) -> Answer:
        """Take the texts of a workload."""
        self._texts[name] = self.peer.ready(texts)
        return {}

    def settle(self, choices: list[dict[str, int]]) -> Answer:
        """Take these choices for good."""
        self.peer.settle([Choice(**choice) for choice in choices])
        return {}

    def bulk(self, name: str, choice: dict[str, int]) -> Answer:
        """Encode all texts; start and end by a clock that all processes share."""
        texts, how = self._texts[name], Choice(**choice)
        start = time.monotonic()
        self.peer.encode(texts, how)
        return {"start": start, "end": time.monotonic()}

    def unary(self, name: str, concurrency: int) -> Answer:
        """Encode texts one by one; the latency of each."""
        if concurrency > 1 and not self.peer.concurrent:
            raise ValueError("takes one call at a time")
        calls = [partial(self.peer.encode_one, [text]) for text in self._texts[name]]
        start = time.monotonic()
        latencies = concurrently(calls, concurrency)
        return {"latencies": latencies, "seconds": time.monotonic() - start}

    def paced(self, name: str, seconds: float, rate: float, seed: int) -> Answer:
        """Encode single texts at random times for a while: the latency of each, from when it was due, and where each
        call's own time went.
        """
        parts: list[dict[str, float]] = []

        def call(text: Any) -> None:
            parts.append(self.peer.encode_in_parts([text]))  # type: ignore[attr-defined]  # servers only

        calls = [partial(call, text) for text in self._texts[name]]
        return {"latencies": paced(calls, seconds, rate, seed), "parts": parts}

    def bulk_for(self, name: str, lead: float, seconds: float) -> Answer:
        """Encode the texts over and over for a while: texts a second after the lead, and how long batches computed."""
        found = self.peer.encode_for(self._texts[name], lead, seconds)  # type: ignore[attr-defined]  # streams only
        return dict(zip(("rate", "compute"), found, strict=True))

    def vectors(self, name: str, choice: dict[str, int], path: str) -> Answer:
        """Save the vectors."""
        np.save(path, np.asarray(self.peer.encode(self._texts[name], Choice(**choice)), np.float32))
        return {}


def main() -> int:
    """Answer until standard input ends."""
    # Libraries print what they like; the answers go where only we write.
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
    """One line."""
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
