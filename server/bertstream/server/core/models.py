"""A model as the frontend serves it: its description, its tokenizer, and the way to its workers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from bertstream.server.core import tracing
from bertstream.server.core.admission import Admission
from bertstream.server.core.callers import Caller
from bertstream.server.core.dispatch import Dispatcher
from bertstream.server.core.errors import model_not_found
from bertstream.server.core.measures import ModelMeasures
from bertstream.server.core.memo import Memo
from bertstream.server.core.tokenization import (
    Detokenized,
    Ids,
    Inputs,
    Pairs,
    Texts,
    TextTokenizer,
    Tokenized,
    TokenizeOptions,
    Words,
    cancelling,
)
from bertstream.server.settings import FrontendSettings, Limits, ModelSettings
from bertstream.workers.programs.description import ModelDescription
from bertstream.workers.trust.seal import Sealed

Made = TypeVar("Made")

TOKENIZER_FILE = "tokenizer.json"
FEW_TEXTS = 16  # the most in a message that never waits behind bulk messages for a thread
# The most characters and words in a message of few texts that is tokenized at once: that takes up to 1 ms, and to hand
# it to a thread and back would take as long (docs/decisions/0051-cost-of-a-call.md).
SHORT_CHARACTERS = 1024
_PLANS = 64  # that are remembered


@dataclass(frozen=True, slots=True)
class Timed:
    """The tokens of a message, and how long tokenizing took."""

    tokens: Tokenized
    seconds: float


class ServedModel:
    """One model as one frontend serves it."""

    def __init__(
        self,
        settings: ModelSettings,
        frontend: FrontendSettings,
        threads: Executor,
        on_change: Callable[[], None],
        measures: ModelMeasures | None = None,
    ) -> None:
        measures = measures or ModelMeasures()
        directory = Path(settings.directory)
        self.name = settings.name
        self.serial = settings.serial
        self.description = described(settings)
        self.cpu_instructions = settings.cpu_instructions
        self.limits: Limits = frontend.limits
        self.admission = Admission(settings.queue_tokens, measures.encode)
        # Generation takes long, so it has a bound of its own, which leaves room for texts to be encoded meanwhile.
        self.generation_admission = Admission(settings.queue_tokens, measures.generate)
        self.dispatcher = Dispatcher(settings.sockets, frontend.worker_wait_seconds, on_change, measures)
        self.plans = Memo[Any](_PLANS)  # for protocols, by what a call asked for
        self._calls = 0
        self._idle = asyncio.Event()
        self._threads = threads  # one more than tokenizer_threads
        self._many = asyncio.Semaphore(frontend.tokenizer_threads)
        with Sealed.open(directory) as sealed:
            tokenizer_json = sealed.read(TOKENIZER_FILE)
        self.tokenizer = TextTokenizer.parse(
            tokenizer_json,
            str(directory / TOKENIZER_FILE),
            vocabulary_size=self.description.vocabulary_size,
            type_vocabulary_size=self.description.type_vocabulary_size,
            lowercase=self.description.lowercase,
            clean_up_spaces=self.description.clean_up_spaces,
            on_tokenized=measures.tokenized,
        )

    def check_room(self, caller: Caller, deadline: float) -> None:
        """Raise QUOTA_EXCEEDED or OVERLOADED, before any work for a call, where it would be refused later."""
        self.admission.check(caller)
        self.dispatcher.check_time(caller, deadline)

    def check_generation_room(self, caller: Caller, deadline: float) -> None:
        """Raise as check_room does, for a call that generates."""
        self.generation_admission.check(caller)
        self.dispatcher.check_generation_time(caller, deadline)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Count a call while the body runs."""
        self._calls += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()

    async def idle(self) -> None:
        """Return once no call is under way."""
        if self._calls:
            await self._idle.wait()

    async def in_thread(self, function: Callable[[], Made], *, many: bool = False) -> Made:
        """Run a function that takes a while in one of the tokenizing threads, while the event loop goes on.

        many: whether it works on many texts; such functions leave one thread free for those that work on few texts.
        Once this is cancelled, the thread finishes the part of a text that it is at, and then stops.
        """
        cancelled = threading.Event()
        work = partial(cancelling.run, function, cancelled)
        try:
            async with self._many if many else nullcontext():
                return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            cancelled.set()

    async def tokenize(self, inputs: Inputs, options: TokenizeOptions, prompt: str = "") -> Timed:
        """Tokenize the inputs, in a thread unless they are short."""
        started = time.monotonic()
        with tracing.span("tokenize") as span:
            if is_short(inputs, prompt) and not options.windows:  # of which there may be as many as tokens
                tokens = self.tokenizer.tokenize(inputs, options, prompt)
            else:
                many = len(inputs) > FEW_TEXTS
                tokens = await self.in_thread(lambda: self.tokenizer.tokenize(inputs, options, prompt), many=many)
            span.set(texts=len(inputs), tokens=tokens.ids.size)
        return Timed(tokens, time.monotonic() - started)

    async def detokenize(self, ids: Ids, skip_special_tokens: bool) -> Detokenized:
        """Turn token ids into texts in a thread."""
        many = len(ids) > FEW_TEXTS
        return await self.in_thread(
            lambda: self.tokenizer.detokenize(ids, skip_special_tokens=skip_special_tokens), many=many
        )


def is_short(inputs: Inputs, prompt: str = "") -> bool:
    """Tell whether tokenizing these inputs holds up the event loop no longer than handing them to a thread would."""
    if len(inputs) > FEW_TEXTS:
        return False
    match inputs:
        case Ids(ids):
            return ids.size <= SHORT_CHARACTERS
        case Texts(texts):
            parts = [texts]
        case Pairs(firsts, seconds):
            parts = [firsts, seconds]
        case Words(words):  # there may be millions of them, and they may be empty
            if len(words) > SHORT_CHARACTERS:
                return False
            parts = [words]
    pieces = sum(map(len, parts))
    characters = sum(sum(map(len, part)) for part in parts)
    return len(inputs) * len(prompt) + pieces + characters <= SHORT_CHARACTERS


def described(settings: ModelSettings) -> ModelDescription:
    """Return the description of the compiled model as this server serves it."""
    description = ModelDescription.load(Path(settings.directory))
    return description.with_default_length(settings.max_length) if settings.max_length else description


class Models:
    """All models that are served, the default one first."""

    def __init__(self, models: Sequence[ServedModel] = ()) -> None:
        self.replace(models)

    def replace(self, models: Sequence[ServedModel]) -> None:
        """Serve these models from now on; calls under way keep the model that they have."""
        self._by_name: Mapping[str, ServedModel] = {model.name: model for model in models}

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._by_name.values())

    def get(self, name: str, until: ExitStack, caller: Caller) -> ServedModel:
        """Return the model of this name, or the default one for no name; it counts as in use until `until` is closed.

        Raises PERMISSION_DENIED where the caller may not use it, and NOT_FOUND, which lists what the caller may use.
        """
        name = name or next(iter(self._by_name))
        caller.check_model(name)
        if name not in self._by_name:
            raise model_not_found(name, filter(caller.may_use, self._by_name))
        return self._used(self._by_name[name], until)

    def first(self, suits: Callable[[ModelDescription], bool], until: ExitStack, caller: Caller) -> ServedModel | None:
        """Return the first model that suits and that the caller may use, as `get` does; None where there is none."""
        for name, model in self._by_name.items():
            if caller.may_use(name) and suits(model.description):
                return self._used(model, until)
        return None

    def _used(self, model: ServedModel, until: ExitStack) -> ServedModel:
        until.enter_context(model.in_use())
        return model
