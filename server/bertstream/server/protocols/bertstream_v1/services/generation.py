"""GenerationService."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from bertstream.server.core import tracing
from bertstream.server.core.computing import check_answer_size, refuse_if_late
from bertstream.server.core.errors import RequestError
from bertstream.server.core.generation.answers import GeneratedPiece
from bertstream.server.core.generation.bad_words import Words, bad_word_ids
from bertstream.server.core.generation.generator import Answered, Generation, generate_all
from bertstream.server.core.generation.inputs import Prompt, Prompts, prepare_prompts
from bertstream.server.core.generation.plan import GenerationPlan
from bertstream.server.core.models import Models, ServedModel
from bertstream.server.core.preparation import refuse_failed
from bertstream.server.protocols.bertstream_v1 import wire
from bertstream.server.protocols.bertstream_v1.streams import BulkStream, Items, Reply, first_message, item_error
from bertstream.server.protocols.bertstream_v1.validation.generation import (
    FINISH_REASONS,
    AskedGeneration,
    parse_generation,
)
from bertstream.server.protocols.bertstream_v1.validation.inputs import parse_sent, refuse_bad_strings
from bertstream.server.protocols.call import Call, Stream
from bertstream.server.protocols.decoding import Decoded
from bertstream.server.protocols.enums import value_of
from bertstream.v1 import generation_pb2, types_pb2
from bertstream.workers.contract import BULK, INTERACTIVE

_MESSAGE_ITEMS = 64
_ADVICE = "use StreamGeneratedTexts, or fewer tokens"  # for answers that are too large

AnswerOf = Reply[generation_pb2.StreamGeneratedTextsResponse]


class GenerationService:
    """Text to more text."""

    def __init__(self, models: Models) -> None:
        self._models = models

    async def generate_texts(
        self, request: Decoded[generation_pb2.GenerateTextsRequest], call: Call
    ) -> generation_pb2.GenerateTextsResponse:
        message = request.value()
        refuse_bad_strings(message.inputs, request.bad_strings)
        model = self._models.get(message.options.model, call.until_end, call.caller)
        plan = parse_generation(message.options, model.name, model.description, INTERACTIVE)
        model.check_generation_room(call.caller, call.deadline)
        words = await bad_word_ids(model, plan)
        sent = parse_sent(message.inputs, "inputs", model.limits.max_texts)
        prepared = await prepare_prompts(model, plan, words, sent)
        refuse_failed(prepared.failed)
        prepared.check_answer_size(plan, model.limits.max_response_bytes, _ADVICE)
        answered = await generate_all(model, plan, prepared, call)
        with tracing.span("wire"):
            response = generation_pb2.GenerateTextsResponse(
                options=_effective(plan, prepared),
                outputs=[_texts(each) for each in answered],
                usage=_usage(answered),
                timings=_timings(prepared.tokenize_seconds, call.arrived, answered),
            )
        check_answer_size(response.ByteSize(), model.limits, "inputs", _ADVICE)
        return response

    async def stream_generation(
        self,
        request: Decoded[generation_pb2.StreamGenerationRequest],
        stream: Stream[generation_pb2.StreamGenerationResponse],
        call: Call,
    ) -> None:
        message = request.value()
        refuse_bad_strings(message.inputs, request.bad_strings)
        model = self._models.get(message.options.model, call.until_end, call.caller)
        plan = parse_generation(message.options, model.name, model.description, INTERACTIVE, pieces=True)
        model.dispatcher.check_generation_time(call.caller, call.deadline)
        words = await bad_word_ids(model, plan)
        prepared = await prepare_prompts(model, plan, words, parse_sent(message.inputs, "inputs", max_texts=1))
        refuse_failed(prepared.failed)
        prompt = prepared.prompts[0]
        call.check_deadline()
        started = generation_pb2.GenerationStarted(options=_effective(plan, prepared), input_tokens=prompt.tokens)
        await stream.write(generation_pb2.StreamGenerationResponse(started=started))
        # Without closing, the work for a caller who has gone would go on until the garbage collector finds it.
        async with aclosing(Generation(model, plan, call.deadline, call.caller, waits=True).stream(prompt)) as events:
            async for event in events:
                await stream.write(_event(event, prepared.tokenize_seconds, call))

    async def stream_generated_texts(
        self, stream: Stream[generation_pb2.StreamGeneratedTextsRequest], call: Call
    ) -> None:
        messages = aiter(stream)
        options = await first_message(messages, "options")
        if options is None:
            return
        model = self._models.get(options.model, call.until_end, call.caller)
        plan = parse_generation(options, model.name, model.description, BULK)
        words = await bad_word_ids(model, plan)
        started = generation_pb2.GenerationStreamStarted(options=plan.effective, window=wire.window_of(model.limits))
        await stream.write(generation_pb2.StreamGeneratedTextsResponse(started=started))
        await _GenerationStream(model, plan, words, stream, call).run(messages)


@dataclass(frozen=True, slots=True)
class _Done:
    """The result of one input of a stream."""

    index: int
    result: Answered | RequestError
    held: int = 0  # tokens of the window


class _GenerationStream:
    """One bulk stream: every input is an asyncio task of its own, and all results that are ready go into one answer."""

    def __init__(
        self,
        model: ServedModel,
        plan: GenerationPlan,
        words: Words,
        stream: Stream[generation_pb2.StreamGeneratedTextsRequest],
        call: Call,
    ) -> None:
        self._model = model
        self._plan = plan
        self._words = words
        self._call = call
        self._generation = Generation(model, plan, call.deadline, call.caller, waits=True)
        self._bulk: BulkStream[generation_pb2.StreamGeneratedTextsResponse] = BulkStream(
            stream, call, wire.window_of(model.limits), self._handle
        )
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, messages: AsyncIterator[Decoded[generation_pb2.StreamGeneratedTextsRequest]]) -> None:
        try:
            await self._bulk.run(messages, self._model.limits.max_texts)
        finally:
            for task in self._tasks:
                task.cancel()

    async def _handle(self, items: Items) -> AsyncIterator[AnswerOf]:
        arrived = time.monotonic()
        sent = parse_sent(items.inputs, "items.inputs", self._model.limits.max_texts, items.bad)
        prepared = await prepare_prompts(self._model, self._plan, self._words, sent)
        ready: asyncio.Queue[_Done | Exception] = asyncio.Queue()
        for index, error in sorted(prepared.failed.items()):
            ready.put_nowait(_Done(index, error))
        for prompt in prepared.prompts:
            task = asyncio.create_task(self._run(prompt, ready))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        missing = len(prepared.prompts) + len(prepared.failed)
        while missing:
            done = [_checked(await ready.get())]
            while len(done) < _MESSAGE_ITEMS and not ready.empty():
                done.append(_checked(ready.get_nowait()))
            missing -= len(done)
            yield self._answer(items, done, prepared, arrived)

    async def _run(self, prompt: Prompt, ready: asyncio.Queue[_Done | Exception]) -> None:
        held = await self._bulk.tokens.acquire(prompt.cost)
        try:
            done: _Done | Exception = _Done(prompt.index, await self._generation.run(prompt), held)
        except RequestError as error:
            done = _Done(prompt.index, error, held)
        except Exception as error:  # a bug of ours, which ends the stream
            done = error
        ready.put_nowait(done)

    def _answer(self, items: Items, done: Sequence[_Done], prepared: Prompts, arrived: float) -> AnswerOf:
        good = [(each.index, each.result) for each in done if isinstance(each.result, Answered)]
        answered = [result for _, result in good]
        message = generation_pb2.GeneratedItems(
            ids=[items.ids[index] for index, _ in good],
            outputs=[_texts(result) for result in answered],
            errors=[
                item_error(items.ids[each.index], each.result, self._call)
                for each in done
                if isinstance(each.result, RequestError)
            ],
            usage=_usage(answered),
            timings=_timings(prepared.tokenize_seconds, arrived, answered),
        )
        response = generation_pb2.StreamGeneratedTextsResponse(items=message)
        return Reply(response, len(done), sum(each.held for each in done))


def _checked(done: _Done | Exception) -> _Done:
    """Return an input's result; raise an error that concerns the whole stream."""
    if isinstance(done, Exception):
        raise done
    if isinstance(done.result, RequestError):
        refuse_if_late(done.result)
    return done


def _event(
    event: GeneratedPiece | Answered, tokenize_seconds: float, call: Call
) -> generation_pb2.StreamGenerationResponse:
    if isinstance(event, GeneratedPiece):
        piece = generation_pb2.GeneratedPiece(
            sequence_index=event.sequence_index,
            text=event.text,
            token_ids=event.token_ids,
            token_scores=event.token_scores,
        )
        return generation_pb2.StreamGenerationResponse(piece=piece)
    completed = generation_pb2.GenerationCompleted(
        output=_texts(event), usage=_usage([event]), timings=_timings(tokenize_seconds, call.arrived, [event])
    )
    return generation_pb2.StreamGenerationResponse(completed=completed)


def _texts(answered: Answered) -> generation_pb2.GeneratedTexts:
    """Return the answers to one input."""
    texts = [
        generation_pb2.GeneratedText(
            text=each.text,
            token_ids=each.token_ids,
            finish_reason=value_of(FINISH_REASONS, each.finish_reason),
            score=each.score,
            token_scores=each.token_scores,
        )
        for each in answered.texts
    ]
    return generation_pb2.GeneratedTexts(texts=texts, input_tokens=answered.prompt.tokens)


def _effective(plan: AskedGeneration, prepared: Prompts) -> generation_pb2.GenerationOptions:
    """Return the options in effect for these inputs, with the drawn seed if there is one input."""
    effective = generation_pb2.GenerationOptions()
    effective.CopyFrom(plan.effective)
    effective.max_new_tokens = max(prompt.work.options.max_new_tokens for prompt in prepared.prompts)
    effective.min_new_tokens = max(prompt.work.options.min_new_tokens for prompt in prepared.prompts)
    if prepared.seed is not None:
        effective.seed = prepared.seed
    return effective


def _usage(answered: Sequence[Answered]) -> generation_pb2.GenerationUsage:
    return generation_pb2.GenerationUsage(
        inputs=len(answered),
        input_tokens=sum(each.prompt.tokens for each in answered),
        generated_tokens=sum(len(text.token_ids) for each in answered for text in each.texts),
        truncated_inputs=sum(each.prompt.truncated for each in answered),
    )


def _timings(tokenize_seconds: float, since: float, answered: Sequence[Answered]) -> types_pb2.Timings:
    """Return the timings from `since` (of time.monotonic()) until now; the slowest of several inputs counts."""
    total = time.monotonic() - since
    if not answered:
        return wire.timings(tokenize_seconds, total)
    queue = max(each.queue_seconds for each in answered)
    return wire.timings(tokenize_seconds, total, queue, max(each.compute_seconds for each in answered))
