"""What the methods of generation do, without any I/O: operations, and the codec of a stream."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertstream.client._calls.answers import SmallAnswers, errors_of, item_ids
from bertstream.client._calls.codec import Answers, Started
from bertstream.client._calls.limits import unary_limits
from bertstream.client._calls.models import Descriptions, describe
from bertstream.client._calls.requests import Delivery, StreamRequest, with_interactive
from bertstream.client._calls.unary_calls import Operation, fan_out
from bertstream.client._errors import FailedPrecondition, RpcError, unexpected_response
from bertstream.client._generation.decode import generations_of
from bertstream.client._generation.options import SummarizeOptions, generation_options
from bertstream.client._generation.reports import effective_generation_options
from bertstream.client._generation.types import GeneratedBatch, Generation
from bertstream.client._reports import ReportOption, check_report, report_answer
from bertstream.client._texts import Group, Text, listed, prepare_all
from bertstream.client._usage import Cost, cost_of
from bertstream.v1 import generation_pb2 as generation

FEW_PROMPTS = 8  # up to this many go in one unary call, more go over a stream, which waits for a busy server
GENERATED_BATCH = 16  # prompts
SUMMARIZING_HEAD = "sequence_to_sequence"


@dataclass(frozen=True, slots=True)
class Asked:
    """A caller's prompts, and the options for them."""

    options: generation.GenerationOptions
    prompts: list[Any]
    alone: bool  # whether the caller gave a single prompt, not a list
    report: ReportOption

    @property
    def few(self) -> bool:
        """Whether the prompts fit one unary call."""
        return len(self.prompts) <= FEW_PROMPTS

    def stream(self) -> StreamRequest[GeneratedBatch[Any]]:
        """Return the request for a stream that answers the prompts in their order."""
        return _stream_request(self.options, Delivery(batch_size=GENERATED_BATCH, report=self.report))

    def result(self, outputs: list[Any]) -> Any:
        """Return what the caller gets: the outputs, or the only one."""
        return outputs[0] if self.alone else outputs


def prompts_asked(prompts: Text | Iterable[Text], report: ReportOption, **given: Any) -> Asked:
    """Return the prompts and options of `generate`."""
    check_report(report)
    return Asked(generation_options(**with_interactive(given)), *listed(prompts), report)


def summaries_asked(texts: Text | Iterable[Text], report: ReportOption, **given: Any) -> Asked:
    """Return the prompts and options of `summarize`. Raises TypeError for options that it does not have."""
    for name in given.keys() - SummarizeOptions.__optional_keys__:
        raise TypeError(f"summarize() got an unexpected keyword argument {name!r}")
    return prompts_asked(texts, report, **given)


def generate(known: Descriptions, asked: Asked) -> Operation[list[Any]]:
    """Return for each prompt its answer, or a list of its answers, by unary calls."""
    prepared = prepare_all(asked.prompts)
    limits = yield from unary_limits(known, asked.options.model, prepared)
    results: list[Any] = [None] * len(prepared)

    def request(group: Group) -> generation.GenerateTextsRequest:
        return generation.GenerateTextsRequest(options=asked.options, inputs=group.batch())

    def take(group: Group, response: generation.GenerateTextsResponse) -> None:
        if len(response.outputs) != len(group.indexes):
            raise unexpected_response(f"answers to {len(response.outputs)} of {len(group.indexes)} prompts")
        for index, output in zip(group.indexes, response.outputs, strict=True):
            results[index] = _result(output, asked.options)
        report_answer(asked.report, response, effective_generation_options)

    calls = fan_out("GenerateTexts", prepared, limits, request, take)
    calls.patient = True  # the time depends on how much is to be generated
    yield calls
    return results


def require_summaries(known: Descriptions, name: str) -> Operation[None]:
    """Raise FailedPrecondition if the model cannot summarize."""
    model = yield from describe(known, name)
    if model and SUMMARIZING_HEAD not in model.heads:
        known.pop(name)  # the model may have been replaced meanwhile
        model = yield from describe(known, name)
    if model and SUMMARIZING_HEAD not in model.heads:
        heads = ", ".join(model.heads)
        message = f"model {model.name!r} cannot summarize: it has no head {SUMMARIZING_HEAD}; heads that it has: "
        metadata = {"head": SUMMARIZING_HEAD, "heads": heads}
        raise FailedPrecondition(message + (heads or "none"), reason="HEAD_NOT_AVAILABLE", metadata=metadata)


def generate_request(delivery: Delivery, **given: Any) -> StreamRequest[GeneratedBatch[Any]]:
    """Return the request of `generate_stream`."""
    return _stream_request(generation_options(**given), delivery)


def _stream_request(options: generation.GenerationOptions, delivery: Delivery) -> StreamRequest[GeneratedBatch[Any]]:
    return StreamRequest(GenerationStream.rpc, options.model, lambda _: GenerationStream(options), delivery)


class GenerationStream(SmallAnswers):
    """The codec of a `BulkStream` for the answers to prompts, as `generate_stream` returns them."""

    rpc = "StreamGeneratedTexts"

    def __init__(self, options: generation.GenerationOptions) -> None:
        self._options = options

    def options(self) -> generation.StreamGeneratedTextsRequest:
        return generation.StreamGeneratedTextsRequest(options=self._options)

    def request(self, group: Group) -> generation.StreamGeneratedTextsRequest:
        items = generation.GenerationItems(**item_ids(group), inputs=group.batch())
        return generation.StreamGeneratedTextsRequest(items=items)

    def parse(self, response: generation.StreamGeneratedTextsResponse) -> Started | Answers:
        match response.WhichOneof("event"):
            case "started":
                options = effective_generation_options(response.started.options)
                return Started(response.started.window.max_items, options)
            case "items":
                return self._answers(response.items)
        raise unexpected_response("a stream's message without an event")

    def batch(self, ids: list[int], outcomes: Sequence[Any], cost: Cost) -> GeneratedBatch[Any]:
        good = [(item, output) for item, output in zip(ids, outcomes, strict=True) if not isinstance(output, RpcError)]
        good_ids = np.array([item for item, _ in good], np.int64)
        return GeneratedBatch(good_ids, [output for _, output in good], errors_of(ids, outcomes), *cost)

    def _answers(self, items: generation.GeneratedItems) -> Answers:
        if len(items.ids) != len(items.outputs):
            raise unexpected_response(f"{len(items.outputs)} outputs for {len(items.ids)} ids")
        outputs = [_result(output, self._options) for output in items.outputs]
        cost = cost_of(items) if items.ids and items.HasField("usage") else None
        return Answers(list(zip(items.ids, outputs, strict=True)), items.errors, cost)


def _result(message: generation.GeneratedTexts, options: generation.GenerationOptions) -> Generation | list[Generation]:
    """Return one answer, or a list of answers if several were asked for."""
    answers = generations_of(message, options)
    return answers if options.num_return_sequences > 1 else answers[0]
