"""Callers that ask for vectors until they are told to stop, and what became of their calls."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from bertstream.client import Client


class Load:
    """Texts encoded again and again, in calls and in streams, by threads; whether each had its vector."""

    def __init__(self, client: Client, model: str, texts: Sequence[str], expected: np.ndarray) -> None:
        self._client, self._model, self._texts, self._expected = client, model, texts, expected
        self._stop = threading.Event()
        self.answered = 0
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(3)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                vectors = self._client.encode(self._texts, model=self._model)
                batches = [batch.vectors for batch in self._client.encode_stream(self._texts, model=self._model)]
                np.testing.assert_array_equal(vectors, self._expected)
                np.testing.assert_array_equal(np.concatenate(batches), self._expected)
            except Exception as error:
                self.failures.append(f"{type(error).__name__}: {error}")
                self._stop.wait(1)
            self.answered += 1
