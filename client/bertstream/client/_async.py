# ruff: noqa: ASYNC109 - a timeout here is the deadline that is sent to the server
"""The asynchronous client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from types import TracebackType
from typing import Self, Unpack

import grpc

from bertstream.client._calls import models
from bertstream.client._calls.progress import ProgressOption
from bertstream.client._calls.requests import Delivery, OnError
from bertstream.client._encoding import operations
from bertstream.client._encoding.layers import layers_request
from bertstream.client._encoding.options import EncodeOptions, ForwardOptions, TextOptions, TokenizeOptions
from bertstream.client._encoding.requests import (
    FORWARD_BATCH,
    Item,
    encode_request,
    forward_items,
    forward_request,
    multi_vector_request,
    spans_request,
    tokenize_request,
)
from bertstream.client._encoding.spans import Spans, spanned
from bertstream.client._files.async_files import AsyncFileMethods
from bertstream.client._generation.async_generation import AsyncGenerationMethods
from bertstream.client._reports import ReportOption
from bertstream.client._tasks.async_tasks import AsyncTaskMethods
from bertstream.client._texts import Text, listed
from bertstream.client._transport.addresses import servers_of
from bertstream.client._transport.async_transport import AsyncTransport
from bertstream.client._transport.channels import Connection
from bertstream.client._transport.security import TLS, security
from bertstream.client._types import (
    ComputeType,
    EncodedBatch,
    FloatArray,
    Health,
    Layer,
    LayersDone,
    Model,
    Output,
    Outputs,
    OutputsBatch,
    SpanUnit,
    TokenizedBatch,
    Tokens,
)


class AsyncClient(AsyncTaskMethods, AsyncGenerationMethods, AsyncFileMethods):
    """A connection to a bertstream server, for asyncio. Its methods and arguments are documented in Client.

    ```python
    async with AsyncClient("127.0.0.1:50051") as client:
        vectors = await client.encode(["Hello!", "Good day!"])
        async for batch in client.encode_stream(texts):
            ...
    ```

    Streams take asynchronous iterables too. One client may be used in several event loops, one after the other or in
    several threads: each loop has its own connections. A stream must be iterated in the loop in which it began.
    """

    def __init__(
        self,
        address: str | Sequence[str] = "127.0.0.1:50051",
        *,
        timeout: float | None = 60.0,
        channels: int = 4,
        retries: int = 4,
        tls: bool | TLS = False,
        credentials: grpc.ChannelCredentials | None = None,
        api_key: str | None = None,
        insecure_key: bool = False,
        metadata: Iterable[tuple[str, str | bytes]] = (),
        max_message_bytes: int = 64 << 20,
        reconnect_seconds: float = 30.0,
        stream_calls: int | None = None,
        channel: grpc.aio.Channel | None = None,
    ) -> None:
        servers = servers_of(address)
        self._transport = AsyncTransport(
            Connection(
                servers,
                timeout,
                channels,
                retries,
                security(servers, tls, credentials, api_key, insecure_key),
                tuple(metadata),
                max_message_bytes,
                reconnect_seconds,
                stream_calls,
                channel,
            )
        )
        self._run = self._transport.run
        self._descriptions = self._transport.descriptions

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; calls under way raise Cancelled."""
        await self._transport.close()

    async def health(self, service: str = "", *, timeout: float | None = None) -> Health:
        """See Client.health."""
        return await self._run(models.health(service), timeout)

    async def models(self, *, timeout: float | None = None) -> list[Model]:
        """See Client.models."""
        return (await self._run(models.list_models(), timeout))[0]

    async def model(self, name: str = "", *, timeout: float | None = None) -> Model:
        """See Client.model."""
        return await self._run(models.get_model(name), timeout)

    async def server_version(self, *, timeout: float | None = None) -> str:
        """See Client.server_version."""
        return (await self._run(models.list_models(), timeout))[1]

    async def load_model(
        self,
        name: str,
        source: str,
        *,
        dtype: ComputeType | None = None,
        workers: int = 0,
        allow_unsupported_modules: bool = False,
        timeout: float | None = None,
    ) -> Model:
        """See Client.load_model."""
        work = models.load_model(self._descriptions, name, source, dtype, workers, allow_unsupported_modules)
        return await self._run(work, timeout)

    async def unload_model(self, name: str, *, timeout: float | None = None) -> None:
        """See Client.unload_model."""
        await self._run(models.unload_model(self._descriptions, name), timeout)

    async def tokenize(
        self,
        texts: Text | Iterable[Text],
        *,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[TokenizeOptions],
    ) -> list[Tokens]:
        """See Client.tokenize."""
        return await self._run(operations.tokenize(self._descriptions, texts, report, **options), timeout)

    async def detokenize(
        self,
        token_ids: Iterable[Text],
        *,
        skip_special_tokens: bool = False,
        model: str = "",
        timeout: float | None = None,
    ) -> list[str]:
        """See Client.detokenize."""
        return await self._run(
            operations.detokenize(self._descriptions, token_ids, skip_special_tokens, model), timeout
        )

    async def encode(
        self,
        texts: Text | Iterable[Text],
        *,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[EncodeOptions],
    ) -> FloatArray:
        """See Client.encode."""
        return await self._run(operations.encode(self._descriptions, texts, report, **options), timeout)

    async def encode_windows(
        self,
        texts: Text | Iterable[Text],
        *,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[EncodeOptions],
    ) -> list[FloatArray]:
        """See Client.encode_windows."""
        return await self._run(operations.encode_windows(self._descriptions, texts, report, **options), timeout)

    async def encode_spans(
        self,
        texts: Text | Iterable[Text],
        spans: Iterable[Spans],
        *,
        unit: SpanUnit = "characters",
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[EncodeOptions],
    ) -> list[FloatArray]:
        """See Client.encode_spans."""
        request = spans_request(unit, Delivery(batch_size=FORWARD_BATCH, report=report), **options)
        items = spanned(listed(texts)[0], spans)
        return [vectors async for some in self._transport.stream(request, items, timeout) for vectors in some]

    async def encode_multi(
        self,
        texts: Text | Iterable[Text],
        *,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[TextOptions],
    ) -> list[FloatArray]:
        """See Client.encode_multi."""
        request = multi_vector_request(Delivery(batch_size=FORWARD_BATCH, report=report), **options)
        items = listed(texts)[0]
        return [vectors async for some in self._transport.stream(request, items, timeout) for vectors in some]

    async def forward(
        self,
        texts: Text | Iterable[Text],
        outputs: Sequence[Output] | None = None,
        *,
        spans: Iterable[Spans] | None = None,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[ForwardOptions],
    ) -> list[Outputs]:
        """See Client.forward."""
        delivery = Delivery(batch_size=FORWARD_BATCH, report=report)
        request = forward_request(outputs, delivery, interactive=True, **options)
        items = forward_items(texts, spans, outputs)
        return [row async for batch in self._transport.stream(request, items, timeout) for row in batch.outputs]

    def forward_stream(
        self,
        texts: Iterable[Item] | AsyncIterable[Item],
        outputs: Sequence[Output] | None = None,
        *,
        ordered: bool = True,
        on_error: OnError = "raise",
        batch_size: int = 16,
        progress: ProgressOption = False,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[ForwardOptions],
    ) -> AsyncGenerator[OutputsBatch, None]:
        """See Client.forward_stream."""
        request = forward_request(outputs, Delivery(ordered, on_error, batch_size, progress, report), **options)
        return self._transport.stream(request, texts, timeout)

    def stream_layers(
        self,
        texts: Text | Iterable[Text],
        outputs: Sequence[Output] = ("hidden_states",),
        *,
        spans: Iterable[Spans] | None = None,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[ForwardOptions],
    ) -> AsyncGenerator[Layer | LayersDone, None]:
        """See Client.stream_layers."""
        return self._transport.events(layers_request(texts, outputs, spans, report, **options), timeout)

    def encode_stream(
        self,
        texts: Iterable[Text | tuple[int, Text]] | AsyncIterable[Text | tuple[int, Text]],
        *,
        ordered: bool = True,
        on_error: OnError = "raise",
        batch_size: int = 64,
        progress: ProgressOption = False,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[EncodeOptions],
    ) -> AsyncGenerator[EncodedBatch, None]:
        """See Client.encode_stream. A synchronous iterable is iterated in the event loop, so it should not block."""
        request = encode_request(Delivery(ordered, on_error, batch_size, progress, report), **options)
        return self._transport.stream(request, texts, timeout)

    def tokenize_stream(
        self,
        texts: Iterable[Text | tuple[int, Text]] | AsyncIterable[Text | tuple[int, Text]],
        *,
        ordered: bool = True,
        on_error: OnError = "raise",
        batch_size: int = 64,
        progress: ProgressOption = False,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[TokenizeOptions],
    ) -> AsyncGenerator[TokenizedBatch, None]:
        """See Client.tokenize_stream."""
        request = tokenize_request(Delivery(ordered, on_error, batch_size, progress, report), **options)
        return self._transport.stream(request, texts, timeout)
