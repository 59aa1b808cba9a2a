"""Streams of the encoder, as the methods of both clients ask for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from bertstream.client._calls.progress import ProgressOption
from bertstream.client._calls.requests import OnError, StreamRequest, stream_config, with_interactive
from bertstream.client._encoding.codecs import OutputStream, SpanStream, TokenStream, VectorStream
from bertstream.client._encoding.forward_options import forward_options, leave_out_embeddings, span_unit_of
from bertstream.client._encoding.options import encoding_options, tokenization_options
from bertstream.client._encoding.spans import SpannedText, Spans, spanned
from bertstream.client._reports import ReportOption
from bertstream.client._texts import Text, listed
from bertstream.client._types import EncodedBatch, FloatArray, Model, Output, OutputsBatch, SpanUnit, TokenizedBatch
from bertstream.v1 import encoding_pb2 as encoding

Item: TypeAlias = Text | SpannedText | tuple[int, Text | SpannedText]
"""What `forward_stream` takes: a text, with its spans where those are to be pooled, and with an id where wanted."""
DEFAULT_OUTPUTS: tuple[Output, ...] = ("pooled", "last_hidden_state")
FORWARD_BATCH = 16  # texts; each may come with megabytes


def encode_request(
    *,
    ordered: bool,
    on_error: OnError,
    batch_size: int,
    progress: ProgressOption,
    report: ReportOption,
    **given: Any,
) -> StreamRequest[EncodedBatch]:
    """For `encode_stream`."""
    options = encoding_options(**given)
    config = stream_config(ordered, on_error, batch_size, report)
    return StreamRequest(VectorStream.rpc, options.model, lambda model: VectorStream(options, model), config, progress)


def forward_request(
    outputs: Sequence[Output] | None,
    *,
    ordered: bool = True,
    on_error: OnError = "raise",
    batch_size: int = FORWARD_BATCH,
    progress: ProgressOption = False,
    report: ReportOption = None,
    interactive: bool = False,
    span_unit: SpanUnit | None = None,
    **given: Any,
) -> StreamRequest[OutputsBatch]:
    """For `forward_stream`, and with `interactive` for `forward`."""
    given = with_interactive(given) if interactive else given
    options = forward_options(DEFAULT_OUTPUTS if outputs is None else outputs, **given)
    unit, config = span_unit_of(span_unit), stream_config(ordered, on_error, batch_size, report)

    def codec(model: Model | None) -> OutputStream:
        if outputs is None and model and model.has_pooler:
            options.outputs.append(encoding.ENCODING_OUTPUT_POOLER_OUTPUT)
        if model and given.get("attention_layers") is None:
            leave_out_embeddings(options, model)
        return OutputStream(options, unit, model)

    return StreamRequest(OutputStream.rpc, options.model, codec, config, progress)


def forward_items(
    texts: Text | Iterable[Text], spans: Iterable[Spans] | None, outputs: Sequence[Output] | None
) -> Sequence[Text | SpannedText]:
    """What `forward` puts into its stream. ValueError where spans are given but not wanted, or the other way round."""
    items = listed(texts)[0]
    wanted = "pooled_spans" in (outputs or ())
    if wanted != (spans is not None):
        raise ValueError("spans go with pooled_spans among the outputs, and pooled_spans with spans")
    return items if spans is None else spanned(items, spans)


def spans_request(unit: SpanUnit, report: ReportOption, **given: Any) -> StreamRequest[list[FloatArray]]:
    """For `encode_spans`."""
    options = encoding_options(outputs=["pooled_spans"], **with_interactive(given))
    number, config = span_unit_of(unit), stream_config(True, "raise", FORWARD_BATCH, report)
    return StreamRequest(SpanStream.rpc, options.model, lambda model: SpanStream(options, number, model), config)


def tokenize_request(
    *,
    ordered: bool,
    on_error: OnError,
    batch_size: int,
    progress: ProgressOption,
    report: ReportOption,
    **given: Any,
) -> StreamRequest[TokenizedBatch]:
    """For `tokenize_stream`."""
    options = tokenization_options(**given)
    config = stream_config(ordered, on_error, batch_size, report)
    return StreamRequest(TokenStream.rpc, options.model, lambda _: TokenStream(options), config, progress)
