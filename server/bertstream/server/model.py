"""A model as the frontend serves it: its description, its tokenizer, and the way to its workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from bertstream.server.admission import Admission
from bertstream.server.dispatch import Dispatcher
from bertstream.server.errors import model_not_found
from bertstream.server.settings import FrontendSettings, Limits, ModelSettings
from bertstream.server.tokenization import Detokenized, Ids, Inputs, TextTokenizer, Tokenized, TokenizeOptions
from bertstream.workers.description import ModelDescription


@dataclass(frozen=True, slots=True)
class Timed:
    """Tokens, and how long they took."""

    tokens: Tokenized
    seconds: float


class ServedModel:
    """One model, in one frontend."""

    def __init__(
        self, settings: ModelSettings, frontend: FrontendSettings, threads: Executor, on_change: Callable[[], None]
    ) -> None:
        directory = Path(settings.directory)
        self.name = settings.name
        self.description = ModelDescription.load(directory)
        self.limits: Limits = frontend.limits
        self.admission = Admission(settings.queue_tokens)
        self.dispatcher = Dispatcher(settings.sockets, frontend.worker_wait_seconds, on_change)
        self._threads = threads
        self._tokenizer = TextTokenizer.load(
            directory / "tokenizer.json",
            vocabulary_size=self.description.vocabulary_size,
            type_vocabulary_size=self.description.type_vocabulary_size,
            lowercase=self.description.lowercase,
        )

    async def tokenize(self, inputs: Inputs, options: TokenizeOptions, prompt: str = "") -> Timed:
        """Tokenizes in a thread; the event loop goes on."""
        started = time.monotonic()
        tokens = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: self._tokenizer.tokenize(inputs, options, prompt)
        )
        return Timed(tokens, time.monotonic() - started)

    async def detokenize(self, ids: Ids, skip_special_tokens: bool) -> Detokenized:
        """Token ids to texts, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: self._tokenizer.detokenize(ids, skip_special_tokens=skip_special_tokens)
        )


class Models:
    """All models that are served, the default one first."""

    def __init__(self, models: Sequence[ServedModel]) -> None:
        self._by_name: Mapping[str, ServedModel] = {model.name: model for model in models}

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._by_name.values())

    def get(self, name: str) -> ServedModel:
        """The model of this name, or the default one for no name. Raises NOT_FOUND."""
        if not name:
            return next(iter(self._by_name.values()))
        if name not in self._by_name:
            raise model_not_found(name, self._by_name)
        return self._by_name[name]
