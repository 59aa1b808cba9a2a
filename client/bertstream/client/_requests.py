"""Streams as the methods of both clients ask for them: checked at once, opened when first iterated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from bertstream.client._codecs import OutputStream, TokenStream, VectorStream
from bertstream.client._operations import stream_limits
from bertstream.client._options import encoding_options, tokenization_options
from bertstream.client._progress import ProgressOption
from bertstream.client._stream import BulkStream, StreamConfig
from bertstream.client._types import EncodedBatch, Model, Output, Outputs, TokenizedBatch

B = TypeVar("B")

OnError: TypeAlias = Literal["raise", "collect"]
ALL_OUTPUTS: tuple[Output, ...] = ("pooled", "pooler_output", "last_hidden_state")


@dataclass(frozen=True, slots=True)
class StreamRequest(Generic[B]):
    """A stream that is yet to be opened."""

    rpc: str
    model: str
    codec: Callable[[Model | None], Any]
    config: StreamConfig
    progress: ProgressOption = False

    def stream(self, model: Model | None, reconnect_seconds: float) -> BulkStream[Any, B]:
        """Its state, for a model of this description (None: not known)."""
        self.config.limits, self.config.reconnect_seconds = stream_limits(model), reconnect_seconds
        return BulkStream(self.codec(model), self.config)


def encode_request(
    *, ordered: bool, on_error: OnError, batch_size: int, progress: ProgressOption, **given: Any
) -> StreamRequest[EncodedBatch]:
    """For `encode_stream`."""
    options = encoding_options(**given)
    config = _config(ordered, on_error, batch_size)

    def codec(model: Model | None) -> VectorStream:
        return VectorStream(options, model.hidden_size if model else 0)

    return StreamRequest(VectorStream.rpc, options.model, codec, config, progress)


def forward_request(outputs: Sequence[Output], **given: Any) -> StreamRequest[list[Outputs]]:
    """For `forward`."""
    if isinstance(outputs, str) or not outputs:
        raise ValueError(f"outputs must be some of {ALL_OUTPUTS}, not {outputs!r}")
    options = encoding_options(outputs=outputs, **{"priority": "interactive", **given})
    return StreamRequest(OutputStream.rpc, options.model, lambda _: OutputStream(options), _config(True, "raise", 16))


def tokenize_request(
    *, ordered: bool, on_error: OnError, batch_size: int, progress: ProgressOption, **given: Any
) -> StreamRequest[TokenizedBatch]:
    """For `tokenize_stream`."""
    options = tokenization_options(**given)
    config = _config(ordered, on_error, batch_size)
    return StreamRequest(TokenStream.rpc, options.model, lambda _: TokenStream(options), config, progress)


def _config(ordered: bool, on_error: OnError, batch_size: int) -> StreamConfig:
    if on_error not in ("raise", "collect"):
        raise ValueError(f"on_error must be 'raise' or 'collect', not {on_error!r}")
    if batch_size < 1:
        raise ValueError("batch_size must be at least 1")
    return StreamConfig(ordered, on_error == "collect", batch_size)
