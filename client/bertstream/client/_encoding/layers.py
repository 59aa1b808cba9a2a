"""A stream of layers without its I/O: rows as they come are put together to complete layers.

Only the rows of incomplete layers are held. If the server keeps to the order that encoding.proto promises, that is one
layer of one text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from bertstream.client._calls.requests import with_interactive
from bertstream.client._encoding.forward_options import forward_options, leave_out_embeddings, outputs_of, span_unit_of
from bertstream.client._encoding.outputs import pieces_of, token_columns, whole
from bertstream.client._encoding.reports import effective_options
from bertstream.client._encoding.requests import forward_items
from bertstream.client._encoding.spans import Spans, prepare_spanned, span_lists
from bertstream.client._encoding.tensors import array_of
from bertstream.client._errors import RpcError, Unavailable, unexpected_response
from bertstream.client._reports import EffectiveOptions, Report, ReportOption, check_report
from bertstream.client._texts import MessageLimits, Text, cut, prepare
from bertstream.client._types import FloatArray, Layer, LayerKind, LayersDone, Model, Output, SpanUnit
from bertstream.client._usage import cost_of
from bertstream.v1 import encoding_pb2 as encoding

Key: TypeAlias = tuple[int, int, LayerKind]
"""The index of the text, the layer, the kind."""

LAYERS_RPC = "StreamLayers"
_KINDS: dict[int, LayerKind] = {
    encoding.ROW_SOURCE_HIDDEN_STATE: "hidden_states",
    encoding.ROW_SOURCE_ATTENTION: "attentions",
}
_ONE_CALL = MessageLimits(texts=1 << 62, bytes=1 << 62)


class LayersRequest(NamedTuple):
    """A stream of layers that is yet to be opened."""

    message: encoding.StreamLayersRequest
    report: ReportOption
    needs_model: bool  # whether the embeddings may have to be removed from the layers of attentions

    @property
    def rpc(self) -> str:
        """The name of the rpc."""
        return LAYERS_RPC

    @property
    def model(self) -> str:
        """The model's name."""
        return self.message.options.model

    def message_for(self, model: Model | None) -> encoding.StreamLayersRequest:
        """Return the request for a model with this description, or None if it is not known."""
        if self.needs_model and model:
            leave_out_embeddings(self.message.options, model)
        return self.message

    def events(self, reconnect_seconds: float) -> LayerAssembly:
        """Return what takes the answers."""
        return LayerAssembly(self.report)


def layers_request(
    texts: Text | Iterable[Text],
    outputs: Sequence[Output],
    spans: Iterable[Spans] | None,
    report: ReportOption = None,
    *,
    span_unit: SpanUnit | None = None,
    **given: Any,
) -> LayersRequest:
    """Return the request of `stream_layers`. Raises ValueError for no texts, or for texts of several kinds."""
    check_report(report)
    options = forward_options(outputs_of(outputs), **with_interactive(given))
    unit, items = span_unit_of(span_unit), forward_items(texts, spans, outputs)
    make = prepare if spans is None else prepare_spanned
    groups = list(cut(enumerate(make(item, index) for index, item in enumerate(items)), _ONE_CALL))
    if len(groups) != 1:
        raise ValueError("stream_layers takes at least one text, and of several only such as are of one kind")
    lists = None if spans is None else span_lists(groups[0], unit)
    message = encoding.StreamLayersRequest(options=options, inputs=groups[0].batch(), spans=lists)
    from_end = given.get("attention_layers") is None and any(layer < 0 for layer in options.attention_layers)
    return LayersRequest(message, report, from_end)


class LayerAssembly:
    """Receives the messages of one call, and returns each layer when it is complete."""

    def __init__(self, report: ReportOption = None) -> None:
        self._report = report
        self._started: _Started | None = None
        self._open: dict[Key, _Growing] = {}
        self._done = False

    def receive(self, response: encoding.StreamLayersResponse) -> Layer | LayersDone | None:
        """Return the layer that is complete now, if any, or the end. Raises Internal if the message makes no sense."""
        match response.WhichOneof("event"):
            case "started":
                self._started = _Started.of(response.started)
                return None
            case "rows" if self._started:
                return self._grown(self._started, response.rows)
            case "completed" if self._started and not self._open:
                self._done = True
                done = self._started.done(response.completed)
                if self._report:
                    self._report(Report(self._started.options, done.usage, done.timings))
                return done
        raise unexpected_response("a message of a stream of layers out of turn")

    def broken(self, error: RpcError) -> float:
        """Raise the error: nothing would tell layers of the same model from those of one that has replaced it."""
        if isinstance(error, Unavailable) and self._started:
            error.message = f"the stream of layers was interrupted: {error.message}"
        raise error

    def ended(self) -> None:
        """Check that the call was complete. Raises Internal if something is missing."""
        if not self._done:
            raise unexpected_response("the stream of layers ended before it was complete")

    def _grown(self, started: _Started, rows: encoding.TensorRows) -> Layer | None:
        kind = _KINDS.get(rows.source)
        if kind is None or not 0 <= rows.text_index < len(started.token_counts):
            raise unexpected_response(f"rows of source {rows.source} of text {rows.text_index}")
        key: Key = (rows.text_index, rows.layer, kind)
        growing = self._open.setdefault(key, _Growing(started.rows_of(rows.text_index, kind)))
        if not growing.add(rows.first_row, array_of(rows.rows)):
            return None
        del self._open[key]
        return started.layer(key, growing.array())


class _Started(NamedTuple):
    """The content of the server's first answer."""

    options: EffectiveOptions
    token_counts: list[int]
    columns: dict[str, Any]  # of the tokens, a value for each text
    heads: tuple[int, ...]

    @classmethod
    def of(cls, message: encoding.LayersStarted) -> _Started:
        counts = list(message.token_counts)
        columns = token_columns(message.tokens, len(counts)) if message.HasField("tokens") else {}
        if any(len(column) != len(counts) for column in columns.values()):
            raise unexpected_response(f"tokens of other than {len(counts)} texts")
        options = effective_options(message.options)
        return cls(options, counts, columns, options.heads)

    def rows_of(self, text: int, kind: LayerKind) -> int:
        """Return how many rows a complete layer of that kind has."""
        return self.token_counts[text] * (len(self.heads) if kind == "attentions" else 1)

    def layer(self, key: Key, array: FloatArray) -> Layer:
        """Return a layer, given its rows."""
        text, layer, kind = key
        tokens, heads = self.token_counts[text], self.heads if kind == "attentions" else ()
        if heads:
            if array.shape[1] != tokens:
                raise unexpected_response(f"attention rows of {array.shape[1]} for {tokens} tokens")
            array = array.reshape(len(heads), tokens, tokens)
        return Layer(text, layer, kind, array, heads, **self._tokens(text))

    def done(self, message: encoding.LayersCompleted) -> LayersDone:
        """Return the last event."""
        pieces = pieces_of(message.encodings, len(self.token_counts))
        for text, piece in enumerate(pieces):
            piece.token_count = self.token_counts[text]
            piece.columns |= self._tokens(text)
        outputs = [whole([piece]) for piece in pieces]
        return LayersDone(outputs, *cost_of(message))

    def _tokens(self, text: int) -> dict[str, Any]:
        return {name: column[text] for name, column in self.columns.items()}


@dataclass(slots=True)
class _Growing:
    """The rows of one layer of one text, as they come."""

    length: int  # as the server says, so no memory is taken by it
    filled: int = 0
    parts: list[FloatArray] = field(default_factory=list)

    def add(self, first: int, rows: FloatArray) -> bool:
        """Add rows, and return whether the layer is complete."""
        if rows.ndim != 2 or first != self.filled or first + len(rows) > self.length:
            raise unexpected_response(
                f"rows of shape {list(rows.shape)} at {first}, with {self.filled} of {self.length}"
            )
        if self.parts and rows.shape[1] != self.parts[0].shape[1]:
            raise unexpected_response(f"rows of {rows.shape[1]} and of {self.parts[0].shape[1]} in one layer")
        self.parts.append(rows)
        self.filled += len(rows)
        return self.filled == self.length

    def array(self) -> FloatArray:
        """Return all rows that were added, without a copy where they came in one message."""
        return self.parts[0] if len(self.parts) == 1 else np.concatenate(self.parts)
