"""An engine without a model: it answers with what can be told from the texts, and fails those with "bad" in them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import numpy as np

from bertstream.client import (
    Aborted,
    EncodedBatch,
    ItemError,
    Label,
    MultiVector,
    Outputs,
    OutputsBatch,
    PredictedBatch,
    Timings,
    Usage,
)

WIDTH = 3


class FakeClient:
    """The methods of a client that are used, and what they were asked for."""

    def __init__(self) -> None:
        self.texts: list[Any] = []  # in the order in which they came
        self.options: dict[str, Any] = {}

    async def encode(self, texts: list[Any], **options: Any) -> Any:
        assert not texts
        return np.empty((0, WIDTH), np.float32)

    async def encode_stream(self, items: list[tuple[int, Any]], **options: Any) -> AsyncIterator[EncodedBatch]:
        self._asked(items, options)
        for some in (items[1::2], items[::2]):  # answers come in any order
            vectors = np.stack([vector_of(text) for _, text in some]) if some else np.empty((0, WIDTH), np.float32)
            yield EncodedBatch(_ids(some), vectors, _errors(some), _USAGE, _TIMINGS)

    async def forward_stream(
        self, items: list[tuple[int, Any]], outputs: list[str], **options: Any
    ) -> AsyncIterator[OutputsBatch]:
        assert outputs == ["token_vectors"]
        self._asked(items, options)
        good = [(number, text) for number, text in items if not _is_bad(text)]
        made = [Outputs(len(text), token_vectors=np.stack([vector_of(each) for each in text])) for _, text in good]
        yield OutputsBatch(_ids(good), made, _errors(items), _USAGE, _TIMINGS)

    async def model(self, name: str) -> Any:
        return SimpleNamespace(multi_vector=MultiVector(WIDTH, "maxsim", 0, 0, 0))

    async def predict_stream(self, task: str, items: list[tuple[int, Any]], **options: Any) -> AsyncIterator[Any]:
        self._asked(items, options)
        answers: dict[str, Callable[[Any], Any]] = {
            "classify": lambda text: [Label(text, 1.0, 0)],
            "rerank": lambda pair: float(len(pair[1])),
        }
        good = [(number, text) for number, text in items if not _is_bad(text)]
        results = [answers[task](text) for _, text in good]
        yield PredictedBatch(_ids(good), results, _errors(items), _USAGE, _TIMINGS)

    def _asked(self, items: list[tuple[int, Any]], options: dict[str, Any]) -> None:
        self.texts += [text for _, text in items]
        self.options = options


class FakeEngine:
    """Runs everything at once; `before` is called with each request, and may raise."""

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        self.client = FakeClient()
        self.before = before

    def begin(self, work: Callable[[Any], Any]) -> Future[Any]:
        self.before()
        future: Future[Any] = Future()
        future.set_result(asyncio.run(work(self.client)))
        return future


def vector_of(text: str) -> Any:
    return np.array([len(text), ord(text[-1]), text.count("e")], np.float32)


def _is_bad(text: Any) -> bool:
    return "bad" in (text if isinstance(text, str) else " ".join(text))


def _ids(items: list[tuple[int, Any]]) -> Any:
    return np.array([number for number, _ in items], np.int64)


def _errors(items: list[tuple[int, Any]]) -> list[ItemError]:
    error = Aborted("do not send it again", reason="POISONOUS_INPUT")
    return [ItemError(number, error) for number, text in items if _is_bad(text)]


_USAGE, _TIMINGS = Usage(0, 0, 0), Timings(0.0, 0.0, 0.0, 0.0)
