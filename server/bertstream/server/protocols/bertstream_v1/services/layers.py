"""StreamLayers: each layer is sent while the next is computed, and no more than one is computed ahead of the reader."""

from __future__ import annotations

import time
from contextlib import aclosing
from dataclasses import replace

import numpy as np

from bertstream.server.core import errors
from bertstream.server.core.layer_steps import VECTORS, LayerSteps, groups_of, steps_of
from bertstream.server.core.layout import Layout, Tensors, join
from bertstream.server.core.models import ServedModel
from bertstream.server.core.plans import EncodingPlan
from bertstream.server.core.preparation import Prepared, prepare
from bertstream.server.core.splitting import rows_of_texts
from bertstream.server.protocols.bertstream_v1 import wire
from bertstream.server.protocols.bertstream_v1.validation.encoding import AskedEncoding, parse_encoding
from bertstream.server.protocols.bertstream_v1.validation.inputs import parse_sent
from bertstream.server.protocols.bertstream_v1.validation.spans import spans_for
from bertstream.server.protocols.call import Call, Stream
from bertstream.v1 import encoding_pb2
from bertstream.workers.contract import INTERACTIVE, Result

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
    vectors: dict[int, Tensors] = {}  # by the first text of each group
    queued = computed = 0.0
    steps = steps_of(prepared.output_options, model.description.layers)
    groups = groups_of(plan, prepared.batch, model)
    async with aclosing(LayerSteps(model, steps, plan.priority, groups, call).results()) as results:
        async for found in results:
            first, last, result = found.group.first, found.group.last, found.result
            queued, computed = queued + result.queue_seconds, computed + result.compute_seconds
            layout = prepared.layout.part(first, last)
            await _write_rows(stream, result, layout, first, model.description.layers)
            if set(found.step.outputs) & set(VECTORS):
                vectors[first] = result.tensors
    texts = prepared.batch.lengths.size
    if vectors:
        joined = join([vectors[first] for first in sorted(vectors)])
        wire.encodings(completed.encodings, joined, prepared.layout, 0, texts)
    completed.usage.CopyFrom(wire.usage(texts, prepared.batch.ids.size, int(prepared.truncated.sum())))
    total = time.monotonic() - call.arrived
    queued, computed = queued / groups.at_once, computed / groups.at_once  # which wait and compute at the same time
    completed.timings.CopyFrom(wire.timings(prepared.tokenize_seconds, total, queued, computed))
    await stream.write(encoding_pb2.StreamLayersResponse(completed=completed))


async def _write_rows(stream: Responses, result: Result, layout: Layout, first: int, last_layer: int) -> None:
    for text, rows in rows_of_texts(result.tensors, layout):
        kind, _, layer = rows.name.partition(".")
        response = encoding_pb2.StreamLayersResponse()
        event = response.rows  # filled in where it is, since a message that is put into another one is copied
        event.source, event.layer = _SOURCES[kind], int(layer or last_layer)
        event.text_index, event.first_row = first + text, rows.first_row
        wire.fill(event.rows, rows.values, rows.scales)
        await stream.write(response)


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
