"""StreamLayers: each layer is sent while the next is computed, and no more than one is computed ahead of the reader."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core import errors
from bertstream.server.core.dispatch import Stepping, cut
from bertstream.server.core.layout import AnswerSizes, Layout, Tensors, join
from bertstream.server.core.models import ServedModel
from bertstream.server.core.plans import WIRE_BYTES, EncodingPlan
from bertstream.server.core.preparation import Prepared, prepare
from bertstream.server.core.splitting import rows_of_text
from bertstream.server.protocols.bertstream_v1 import wire
from bertstream.server.protocols.bertstream_v1.validation.encoding import AskedEncoding, parse_encoding
from bertstream.server.protocols.bertstream_v1.validation.inputs import parse_sent
from bertstream.server.protocols.bertstream_v1.validation.spans import spans_for
from bertstream.server.protocols.call import Call, Stream
from bertstream.v1 import encoding_pb2
from bertstream.workers.contract import INTERACTIVE, Batch, Output, OutputOptions, Result

_VECTORS: tuple[Output, ...] = ("pooled", "pooler_output", "pooled_spans")
_SOURCES = {
    "hidden_states": encoding_pb2.ROW_SOURCE_HIDDEN_STATE,
    "last_hidden_state": encoding_pb2.ROW_SOURCE_HIDDEN_STATE,
    "attentions": encoding_pb2.ROW_SOURCE_ATTENTION,
}
Responses = Stream[encoding_pb2.StreamLayersResponse]


async def stream_layers(
    model: ServedModel, message: encoding_pb2.StreamLayersRequest, stream: Responses, call: Call
) -> None:
    """Serve one call of StreamLayers."""
    plan = parse_encoding(message.options, model.name, model.description, INTERACTIVE, default_output="hidden_states")
    if at_once := {"token_vectors", "sparse_weights"} & set(plan.output_options.outputs):
        about = f"{min(at_once).upper()} is not computed layer by layer: use EncodeTexts"
        raise errors.invalid("options.outputs", about, "INVALID_COMBINATION")
    if plan.windows is not None:
        raise errors.invalid("options.windows", "texts are not read in windows layer by layer", "INVALID_COMBINATION")
    model.check_room(call.caller, call.deadline)
    sent = parse_sent(message.inputs, "inputs", model.limits.max_texts)
    prepared = await prepare(model, plan, sent, spans_for(plan, message.spans, sent.inputs, "spans"))
    prepared.refuse_failed()
    started = _started(plan, prepared)
    _check_ends(plan, prepared, started, model.limits.max_response_bytes)
    await stream.write(encoding_pb2.StreamLayersResponse(started=started))
    completed = encoding_pb2.LayersCompleted()
    vectors: list[Tensors] = []
    queued = computed = 0.0
    steps = steps_of(prepared.output_options, model.description.layers)
    for first, batch in cut(prepared.batch, *step_costs(plan, prepared.batch, model)):
        layout = prepared.layout.part(first, first + batch.lengths.size)
        async for step, result in _steps(model, steps, plan.priority, batch, call):
            queued, computed = queued + result.queue_seconds, computed + result.compute_seconds
            await _write_rows(stream, result, layout, first, model.description.layers)
            if set(step.outputs) & set(_VECTORS):
                vectors.append(result.tensors)
    texts = prepared.batch.lengths.size
    if vectors:
        wire.encodings(completed.encodings, join(vectors), prepared.layout, 0, texts)
    completed.usage.CopyFrom(wire.usage(texts, prepared.batch.ids.size, int(prepared.truncated.sum())))
    total = time.monotonic() - call.arrived
    completed.timings.CopyFrom(wire.timings(prepared.tokenize_seconds, total, queued, computed))
    await stream.write(encoding_pb2.StreamLayersResponse(completed=completed))


def steps_of(output_options: OutputOptions, last_layer: int) -> list[OutputOptions]:
    """Return the worker's options for each layer; outputs of one vector a text are in a last step of their own."""
    hidden = set(output_options.hidden_layers) if "hidden_states" in output_options.outputs else set()
    attended = set(output_options.attention_layers) if "attentions" in output_options.outputs else set()
    vectors = tuple(output for output in output_options.outputs if output in _VECTORS)
    if "last_hidden_state" in output_options.outputs:
        hidden.add(last_layer)
    steps = []
    for layer in sorted(hidden | attended):
        states: tuple[Output, ...] = ("hidden_states",) if layer in hidden else ()
        weights: tuple[Output, ...] = ("attentions",) if layer in attended else ()
        steps.append(
            replace(output_options, outputs=(*states, *weights), hidden_layers=(layer,), attention_layers=(layer,))
        )
    if vectors:
        steps.append(replace(output_options, outputs=vectors))
    return steps


async def _steps(
    model: ServedModel, steps: Sequence[OutputOptions], priority: int, batch: Batch, call: Call
) -> AsyncIterator[tuple[OutputOptions, Result]]:
    """Yield the results of all steps; each is computed while the caller sends the one before."""
    stepping = Stepping(model.dispatcher, batch, priority, call.deadline, call.caller)

    async def compute(number: int) -> Result:
        # A token is charged once, with the first of its layers.
        texts, tokens = batch.lengths.size, int(batch.ids.size)
        async with model.admission.stream(tokens, call.caller, texts=texts, charged=number == 0):
            return await stepping.step(steps[number], final=number + 1 == len(steps))

    ahead = asyncio.create_task(compute(0))
    try:
        for number, step in enumerate(steps):
            result = await ahead
            if number + 1 < len(steps):
                ahead = asyncio.create_task(compute(number + 1))
            yield step, result
    finally:
        ahead.cancel()
        stepping.close()


async def _write_rows(stream: Responses, result: Result, layout: Layout, first: int, last_layer: int) -> None:
    for text in range(layout.lengths.size):
        for rows in rows_of_text(result.tensors, layout, text):
            kind, _, layer = rows.name.partition(".")
            event = encoding_pb2.TensorRows(
                source=_SOURCES[kind],
                layer=int(layer or last_layer),
                text_index=first + text,
                first_row=rows.first_row,
            )
            wire.fill(event.rows, rows.values, rows.scales)
            await stream.write(encoding_pb2.StreamLayersResponse(rows=event))


def step_costs(plan: EncodingPlan, batch: Batch, model: ServedModel) -> tuple[int, NDArray[np.int64]]:
    """Return the limit of the cost of texts that are computed together, and each text's cost, [n]: its bytes in a step.

    Two steps, the one that is sent and the one that is computed meanwhile, then keep the bound on bytes. A token has a
    least cost, so that such texts fit into a worker's batch.
    """
    output_options, limit = plan.output_options, max(model.limits.stream_bytes // 2, 1)
    size = WIRE_BYTES[output_options.wire_type]
    sizes = AnswerSizes(0, size * model.description.hidden_size, size * len(output_options.attention_heads), 0)
    least = -(-limit // model.dispatcher.batch_tokens) * batch.lengths.astype(np.int64)
    return limit, np.maximum(sizes.of(batch.lengths, None), least)


def _check_ends(plan: EncodingPlan, prepared: Prepared, started: encoding_pb2.LayersStarted, limit: int) -> None:
    """Raise REQUEST_TOO_LARGE if the first or the last message, which cannot be split, is too large for an answer."""
    vectors = replace(plan.sizes, token=0, token_pair=0).of(prepared.layout.lengths, prepared.layout.span_counts)
    size = max(started.ByteSize(), int(vectors.sum()))
    if size > limit:
        about = f"the first or the last message would have {size} bytes, and the limit is {limit}: use StreamEncodings"
        raise errors.too_large("options.outputs", about)


def _started(plan: AskedEncoding, prepared: Prepared) -> encoding_pb2.LayersStarted:
    started = encoding_pb2.LayersStarted(
        options=plan.effective, token_counts=np.asarray(prepared.batch.lengths).tolist()
    )
    if plan.shows_tokens:
        started.tokens.CopyFrom(wire.tokenizations(prepared.tokens, type_ids=plan.type_ids, columns=plan.shown))
    return started
