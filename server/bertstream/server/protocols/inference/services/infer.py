"""Compute tensors from tensors, in calls of one request and in streams."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from bertstream.server.core import tracing
from bertstream.server.core.computing import check_answer_size, refuse_if_late
from bertstream.server.core.errors import RequestError
from bertstream.server.core.models import FEW_TEXTS, Models, ServedModel
from bertstream.server.protocols.call import Call, Stream
from bertstream.server.protocols.decoding import Decoded
from bertstream.server.protocols.inference.asking import parse_request
from bertstream.server.protocols.inference.choosing import VERSION, check_version, checked, choose
from bertstream.server.protocols.inference.inference_pb2 import (
    ModelInferRequest,
    ModelInferResponse,
    ModelStreamInferResponse,
)
from bertstream.server.protocols.inference.options import timeout_of
from bertstream.server.protocols.inference.statistics import StatisticsOfModels
from bertstream.server.protocols.inference.tasks.base import ADVICE, AskedTensors, ComputedTensors, InferTurn
from bertstream.server.protocols.inference.tensors import Strings, classified, write_output
from bertstream.server.protocols.ordered import Group, OrderedStream, alone
from bertstream.server.protocols.rpc import Handler
from bertstream.workers.contract import BULK, INTERACTIVE

_FINAL, _FINAL_ASKED = "triton_final_response", "triton_enable_empty_final_response"
Made = TypeVar("Made")
StreamOf = Stream[ModelInferRequest]


def handlers(models: Models, statistics: StatisticsOfModels) -> dict[str, Handler]:
    """Return the handlers of the rpcs."""

    async def infer(request: Decoded[ModelInferRequest], call: Call) -> ModelInferResponse:
        message = checked(request)
        model = choose(models, message.model_name, message.model_version, call)
        work = await _counted(message, InferTurn(model, call, call.arrived), statistics)
        return await work.answer()

    async def stream_infer(stream: StreamOf, call: Call) -> None:
        await _InferStream(models, statistics, call).run(stream)

    return {"ModelInfer": infer, "ModelStreamInfer": stream_infer}


@dataclass(frozen=True, slots=True)
class _InferWork:
    """Hold what is left to do for a request."""

    cost: int  # of a stream's window, in tokens, until its response is written
    answer: Callable[[], Awaitable[ModelInferResponse]]  # raises RequestError


class _InferStream:
    """Answer each request of a stream by a response, in their order; one that fails is answered by its error."""

    def __init__(self, models: Models, statistics: StatisticsOfModels, call: Call) -> None:
        self._models = models
        self._statistics = statistics
        self._call = call
        self._chosen: dict[str, ServedModel] = {}  # as named; the stream has the same versions until its end
        self._texts = 0  # of the requests so far

    async def run(self, stream: StreamOf) -> None:
        """Serve the call."""
        limits = next(iter(self._models)).limits  # which are the same for all models
        # Each request is a batch already, so none is computed together with others.
        await OrderedStream(stream, self._call, limits, self._prepare, lambda _, number: number).run()

    async def _prepare(
        self, requests: Sequence[Decoded[ModelInferRequest]], number: int
    ) -> Group[ModelStreamInferResponse]:
        (request,) = requests
        message = request.message

        async def prepared() -> _InferWork:
            model, priority = self._model(checked(request)), self._priority(message)
            turn = InferTurn(model, self._call, time.monotonic(), priority=priority, waits=True)
            return await _counted(message, turn, self._statistics)

        work = await self._or_error(message, prepared)
        if isinstance(work, ModelStreamInferResponse):
            return alone(0, partial(_known, work))
        return alone(work.cost, partial(self._answer, message, work))

    async def _answer(self, message: ModelInferRequest, work: _InferWork) -> ModelStreamInferResponse:
        response = await self._or_error(message, work.answer)
        if isinstance(response, ModelStreamInferResponse):
            return response
        if _FINAL_ASKED in message.parameters and message.parameters[_FINAL_ASKED].bool_param:
            response.parameters[_FINAL].bool_param = True
        return ModelStreamInferResponse(infer_response=response)

    def _model(self, message: ModelInferRequest) -> ServedModel:
        name = message.model_name
        if name not in self._chosen:
            self._chosen[name] = choose(self._models, name, "", self._call)
        check_version(self._chosen[name], message.model_version)
        return self._chosen[name]

    def _priority(self, message: ModelInferRequest) -> int:
        """Return the priority of a request that says nothing of it: a stream of few texts does not wait as bulk."""
        # One text, a query, may be for many documents.
        self._texts += max((1, *(each.shape[0] for each in message.inputs if each.shape)))
        return INTERACTIVE if self._texts <= FEW_TEXTS else BULK

    async def _or_error(
        self, message: ModelInferRequest, make: Callable[[], Awaitable[Made]]
    ) -> Made | ModelStreamInferResponse:
        """Return what is made, or the response that tells why it is not. Raises the errors that end a stream."""
        try:
            return await make()
        except RequestError as error:
            if error.reason != "DEADLINE_EXCEEDED" or time.monotonic() >= self._call.deadline:  # else its own timeout
                refuse_if_late(error)
            self._call.refused("item", error.reason)
            named = ModelInferResponse(model_name=message.model_name, id=message.id)
            return ModelStreamInferResponse(error_message=str(error), infer_response=named)


async def _known(response: ModelStreamInferResponse) -> ModelStreamInferResponse:
    return response


async def _counted(message: ModelInferRequest, turn: InferTurn, statistics: StatisticsOfModels) -> _InferWork:
    """Do what comes before the work of a request; what is left is to compute it and to write its response."""
    counts = statistics.of(turn.model)
    counts.came()
    with counts.failing(turn.arrived):
        task, asked = parse_request(message, turn.model.description, turn.model.limits.max_texts)
        turn = replace(turn, timeout_seconds=timeout_of(asked.options))
        turn.check_deadline()
        turn.check_room()
        work = await task.prepare(asked, turn)

    async def answer() -> ModelInferResponse:
        with counts.failing(turn.arrived):
            computed = await work.compute()
            began = time.monotonic()
            with tracing.span("wire"):
                response = _response(message, asked, computed, turn.model)
        now = time.monotonic()
        counts.answered(work.texts, work.tokenize_seconds, computed.outcomes, now - began, now - turn.arrived)
        return response

    return _InferWork(work.cost, answer)


def _response(
    message: ModelInferRequest, asked: AskedTensors, computed: ComputedTensors, model: ServedModel
) -> ModelInferResponse:
    """Return the response to a request. Raises REQUEST_TOO_LARGE."""
    response = ModelInferResponse(model_name=model.name, model_version=VERSION, id=message.id)
    for name in asked.names:
        values = computed.arrays[name]
        if (best := asked.classes.get(name)) and not isinstance(values, Strings):
            values = classified(values, best, model.description.labels)
        write_output(response, name, values)
    check_answer_size(response.ByteSize(), model.limits, "outputs", ADVICE)
    return response
