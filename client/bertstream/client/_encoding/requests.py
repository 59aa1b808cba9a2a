"""Requests for streams of the encoder and the tokenizer, as the methods of both clients make them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from bertstream.client._calls.requests import Delivery, StreamRequest, with_interactive
from bertstream.client._encoding.codecs import MultiVectorStream, OutputStream, SpanStream, TokenStream, VectorStream
from bertstream.client._encoding.forward_options import forward_options, leave_out_embeddings, outputs_of, span_unit_of
from bertstream.client._encoding.options import encoding_options, tokenization_options
from bertstream.client._encoding.spans import SpannedText, Spans, spanned
from bertstream.client._texts import Text, listed
from bertstream.client._types import EncodedBatch, FloatArray, Model, Output, OutputsBatch, SpanUnit, TokenizedBatch
from bertstream.v1 import encoding_pb2 as encoding

Item: TypeAlias = Text | SpannedText | tuple[int, Text | SpannedText]
"""An item of `forward_stream`: a text, or one with spans to pool; the caller may add an id."""
DEFAULT_OUTPUTS: tuple[Output, ...] = ("pooled", "last_hidden_state")
FORWARD_BATCH = 16  # texts; each may come with megabytes


def encode_request(delivery: Delivery, **given: Any) -> StreamRequest[EncodedBatch]:
    """Return the request of `encode_stream`."""
    options = encoding_options(**given)
    return StreamRequest(VectorStream.rpc, options.model, lambda model: VectorStream(options, model), delivery)


def forward_request(
    outputs: Sequence[Output] | None,
    delivery: Delivery,
    *,
    interactive: bool = False,
    span_unit: SpanUnit | None = None,
    **given: Any,
) -> StreamRequest[OutputsBatch]:
    """Return the request of `forward_stream`, or of `forward` with `interactive`."""
    given = with_interactive(given) if interactive else given
    options = forward_options(DEFAULT_OUTPUTS if outputs is None else outputs_of(outputs), **given)
    unit = span_unit_of(span_unit)

    def codec(model: Model | None) -> OutputStream:
        if outputs is None and model and model.has_pooler:
            options.outputs.append(encoding.ENCODING_OUTPUT_POOLER_OUTPUT)
        if model and given.get("attention_layers") is None:
            leave_out_embeddings(options, model)
        return OutputStream(options, unit, model)

    return StreamRequest(OutputStream.rpc, options.model, codec, delivery)


def forward_items(
    texts: Text | Iterable[Text], spans: Iterable[Spans] | None, outputs: Sequence[Output] | None
) -> Sequence[Text | SpannedText]:
    """Return the items of the stream of `forward`.

    Raises ValueError for spans without "pooled_spans" among the outputs, or the other way round.
    """
    items = listed(texts)[0]
    wanted = outputs is not None and "pooled_spans" in outputs_of(outputs)
    if wanted != (spans is not None):
        raise ValueError("spans go with pooled_spans among the outputs, and pooled_spans with spans")
    return items if spans is None else spanned(items, spans)


def spans_request(unit: SpanUnit, delivery: Delivery, **given: Any) -> StreamRequest[list[FloatArray]]:
    """Return the request of `encode_spans`."""
    options = encoding_options(outputs=["pooled_spans"], **with_interactive(given))
    number = span_unit_of(unit, "unit")
    return StreamRequest(SpanStream.rpc, options.model, lambda model: SpanStream(options, number, model), delivery)


def multi_vector_request(delivery: Delivery, **given: Any) -> StreamRequest[list[FloatArray]]:
    """Return the request of `encode_multi`."""
    return _multi_vectors(MultiVectorStream, delivery, **with_interactive(given))


def multi_vector_rows_request(delivery: Delivery, **given: Any) -> StreamRequest[OutputsBatch]:
    """Return the request of `encode_multi_file`, whose rows may fail one by one."""
    return _multi_vectors(OutputStream, delivery, **given)


def _multi_vectors(stream: type[OutputStream], delivery: Delivery, **given: Any) -> StreamRequest[Any]:
    options, unit = encoding_options(outputs=["token_vectors"], **given), encoding.SPAN_UNIT_UNSPECIFIED
    return StreamRequest(stream.rpc, options.model, lambda model: stream(options, unit, model), delivery)


def tokenize_request(delivery: Delivery, **given: Any) -> StreamRequest[TokenizedBatch]:
    """Return the request of `tokenize_stream`."""
    options = tokenization_options(**given)
    return StreamRequest(TokenStream.rpc, options.model, lambda _: TokenStream(options), delivery)
