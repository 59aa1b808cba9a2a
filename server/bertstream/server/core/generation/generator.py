"""Runs generations: sends each input to a worker, and makes text of the tokens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace

from bertstream.server.core import tracing
from bertstream.server.core.callers import Caller
from bertstream.server.core.computing import Terms
from bertstream.server.core.dispatch import Finished, NewTokens, generate
from bertstream.server.core.errors import RequestError
from bertstream.server.core.generation.answers import GeneratedPiece, GeneratedText, GrowingAnswers, whole_answers
from bertstream.server.core.generation.inputs import Prompt, Prompts
from bertstream.server.core.generation.plan import GenerationPlan
from bertstream.server.core.models import ServedModel
from bertstream.server.core.tokenization import Writing
from bertstream.workers.contract import INTERACTIVE


@dataclass(frozen=True, slots=True)
class Answered:
    """The answers to one input, and what they cost."""

    prompt: Prompt
    texts: Sequence[GeneratedText]
    queue_seconds: float
    compute_seconds: float


async def generate_all(model: ServedModel, plan: GenerationPlan, prepared: Prompts, terms: Terms) -> list[Answered]:
    """Generate for the inputs of a call whose answer is one message; raise at once where there is no room."""
    terms.check_deadline()
    cost = sum(prompt.cost for prompt in prepared.prompts)
    with model.generation_admission.unary(cost, terms.caller, texts=len(prepared.prompts)):
        generation = Generation(model, plan, terms.deadline, terms.caller, waits=False)
        return await generation.run_all(prepared.prompts)


class Generation:
    """Generates for inputs of one call or stream."""

    def __init__(
        self, model: ServedModel, plan: GenerationPlan, deadline: float, caller: Caller, *, waits: bool
    ) -> None:
        self._model = model
        self._plan = plan
        self._deadline = deadline
        self._caller = caller  # whose quota is charged for all tokens that there may be, in advance
        self._waits = waits  # to be admitted, and while a worker's queue is full
        self._admission = model.generation_admission

    async def run(self, prompt: Prompt) -> Answered:
        """Return all answers at once, or raise RequestError; cancelling this cancels the work."""
        growing = self._growing(prompt) if prompt.work.options.stream else None
        finished = await self._generate(prompt, growing)
        if growing is not None:
            growing.finish()
            return _answered(prompt, growing.whole(), finished)
        assert finished.completed is not None
        texts = whole_answers(finished.completed, self._writing, self._plan.token_scores)
        return _answered(prompt, texts, finished)

    async def run_all(self, prompts: Sequence[Prompt]) -> list[Answered]:
        """Generate for all inputs at once; the first that fails ends the others, and its error names the input."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._named(prompt)) for prompt in prompts]
        except* RequestError as failed:
            error = next(each for each in failed.exceptions if isinstance(each, RequestError))
        else:
            return [task.result() for task in tasks]
        raise error

    async def stream(self, prompt: Prompt) -> AsyncGenerator[GeneratedPiece | Answered, None]:
        """Yield pieces as they come, and the whole at the end; what comes while one is being sent is one next piece."""
        growing, news = self._growing(prompt), asyncio.Event()
        task = asyncio.create_task(self._generate(prompt, growing, news))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # or asyncio warns of it
        task.add_done_callback(lambda _: news.set())
        try:
            while not task.done():
                await news.wait()
                news.clear()
                for piece in growing.pieces():
                    yield piece
            finished = await task
            growing.finish()
            for piece in growing.pieces():
                yield piece
            yield _answered(prompt, growing.whole(), finished)
        finally:
            task.cancel()

    async def _named(self, prompt: Prompt) -> Answered:
        try:
            return await self.run(prompt)
        except RequestError as error:
            about_it = error.reason in ("POISONOUS_INPUT", "OUT_OF_MEMORY")
            raise prompt.error(error) if about_it else error from None

    @property
    def _writing(self) -> Writing:
        return self._model.tokenizer.writing(skip_special_tokens=not self._plan.keep_special_tokens)

    def _growing(self, prompt: Prompt) -> GrowingAnswers:
        plan = self._plan
        return GrowingAnswers(prompt.work.options, self._writing, plan.stop_strings, plan.token_scores)

    async def _generate(
        self, prompt: Prompt, growing: GrowingAnswers | None, news: asyncio.Event | None = None
    ) -> Finished:
        caller = self._caller
        work = replace(prompt.work, deadline=self._deadline, caller=caller.name, weight=caller.weight)
        with tracing.span("generate") as span:
            sink = None if growing is None else _Sink(growing, news, span)
            async with self._admitted(prompt, pieces=news is not None):
                finished: Finished | None = None
                try:
                    dispatcher = self._model.dispatcher
                    finished = await generate(dispatcher, work, prompt.cost, caller, waits=self._waits, sink=sink)
                    return finished
                finally:
                    worked_on = _worked_on(prompt, growing, finished)
                    span.set(input_tokens=prompt.tokens, tokens=worked_on - prompt.tokens)
                    self._caller.quota.give_back(prompt.cost - worked_on)

    def _admitted(self, prompt: Prompt, *, pieces: bool) -> AbstractAsyncContextManager[None]:
        if not self._waits:
            return nullcontext()
        if pieces and self._plan.priority == INTERACTIVE:
            return self._admission.interactive_stream(prompt.cost, self._caller)
        return self._admission.stream(prompt.cost, self._caller)


class _Sink:
    def __init__(self, growing: GrowingAnswers, news: asyncio.Event | None, span: tracing.Span) -> None:
        self._growing = growing
        self._news = news
        self._span = span
        self._begun = False

    def __call__(self, new: NewTokens) -> bool:
        if not self._begun:
            self._begun = True
            self._span.event("first token")
        goes_on = self._growing.take(new)
        if self._news is not None:
            self._news.set()
        return goes_on


def _worked_on(prompt: Prompt, growing: GrowingAnswers | None, finished: Finished | None) -> int:
    """Return the number of tokens that were worked on or, where that is unknown, the most that it can be."""
    if growing is not None:
        return prompt.tokens + growing.tokens
    if finished is None or finished.completed is None:
        return prompt.cost
    lengths, beams = finished.completed.lengths, prompt.work.options.num_beams
    return prompt.tokens + int(beams * lengths.max() if beams > 1 else lengths.sum())


def _answered(prompt: Prompt, texts: Sequence[GeneratedText], finished: Finished) -> Answered:
    return Answered(prompt, texts, finished.queue_seconds, finished.compute_seconds)
