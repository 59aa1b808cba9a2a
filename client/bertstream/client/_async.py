# ruff: noqa: ASYNC109 - a timeout here is the deadline that the server gets to know
"""The asynchronous client."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Sequence
from itertools import islice
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import grpc

from bertstream.client import _operations as operations
from bertstream.client._async_call import AsyncStreamCall
from bertstream.client._channels import Connection, LeastLoaded, stubs
from bertstream.client._deadline import Deadline
from bertstream.client._errors import Cancelled, RpcError, error_from_call
from bertstream.client._operations import Calls, Descriptions, Operation
from bertstream.client._options import EncodeOptions, TokenizeOptions
from bertstream.client._progress import ProgressOption, reporter
from bertstream.client._requests import (
    ALL_OUTPUTS,
    OnError,
    StreamRequest,
    encode_request,
    forward_request,
    tokenize_request,
)
from bertstream.client._stream import BulkStream, Emit, HalfClose, Open, Pull, Receive, Send, Sleep, Stop
from bertstream.client._sync import CALLS_UNDER_WAY
from bertstream.client._texts import Text, listed
from bertstream.client._types import EncodedBatch, FloatArray, Health, Model, Output, Outputs, TokenizedBatch, Tokens

T = TypeVar("T")


class AsyncClient:
    """A connection to a bertstream server, for asyncio. It has the methods and arguments of Client, which see.

    ```python
    async with AsyncClient("127.0.0.1:50051") as client:
        vectors = await client.encode(["Hello!", "Good day!"])
        async for batch in client.encode_stream(texts):
            ...
    ```

    Streams take asynchronous iterables too. Belongs to one event loop: that of the first call.
    """

    def __init__(
        self,
        address: str = "127.0.0.1:50051",
        *,
        timeout: float | None = 60.0,
        channels: int = 4,
        retries: int = 4,
        credentials: grpc.ChannelCredentials | None = None,
        metadata: Iterable[tuple[str, str | bytes]] = (),
        max_message_bytes: int = 64 << 20,
        reconnect_seconds: float = 30.0,
    ) -> None:
        self._connection = Connection(
            address, timeout, channels, retries, credentials, tuple(metadata), max_message_bytes, reconnect_seconds
        )
        self._channels: list[grpc.aio.Channel] = []
        self._rpcs: list[dict[str, Any]] = []
        self._balance = LeastLoaded(channels)
        self._descriptions: Descriptions = {}
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections; calls under way raise Cancelled."""
        self._closed = True
        await asyncio.gather(*(channel.close() for channel in self._channels))

    async def health(self, service: str = "", *, timeout: float | None = None) -> Health:
        """See Client.health."""
        return await self._run(operations.health(service), timeout)

    async def models(self, *, timeout: float | None = None) -> list[Model]:
        """See Client.models."""
        return (await self._run(operations.list_models(), timeout))[0]

    async def model(self, name: str = "", *, timeout: float | None = None) -> Model:
        """See Client.model."""
        return await self._run(operations.get_model(name), timeout)

    async def server_version(self, *, timeout: float | None = None) -> str:
        """See Client.server_version."""
        return (await self._run(operations.list_models(), timeout))[1]

    async def tokenize(
        self, texts: Text | Iterable[Text], *, timeout: float | None = None, **options: Unpack[TokenizeOptions]
    ) -> list[Tokens]:
        """See Client.tokenize."""
        return await self._run(operations.tokenize(self._descriptions, texts, **options), timeout)

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
        self, texts: Text | Iterable[Text], *, timeout: float | None = None, **options: Unpack[EncodeOptions]
    ) -> FloatArray:
        """See Client.encode."""
        return await self._run(operations.encode(self._descriptions, texts, **options), timeout)

    async def forward(
        self,
        texts: Text | Iterable[Text],
        outputs: Sequence[Output] = ALL_OUTPUTS,
        *,
        timeout: float | None = None,
        **options: Unpack[EncodeOptions],
    ) -> list[Outputs]:
        """See Client.forward."""
        request = forward_request(outputs, **options)
        return [row async for rows in self._stream(request, listed(texts)[0], timeout) for row in rows]

    def encode_stream(
        self,
        texts: Iterable[Text | tuple[int, Text]] | AsyncIterable[Text | tuple[int, Text]],
        *,
        ordered: bool = True,
        on_error: OnError = "raise",
        batch_size: int = 64,
        progress: ProgressOption = False,
        timeout: float | None = None,
        **options: Unpack[EncodeOptions],
    ) -> AsyncGenerator[EncodedBatch, None]:
        """See Client.encode_stream. A synchronous iterable is iterated in the event loop, so it should not block."""
        request = encode_request(
            ordered=ordered, on_error=on_error, batch_size=batch_size, progress=progress, **options
        )
        return self._stream(request, texts, timeout)

    def tokenize_stream(
        self,
        texts: Iterable[Text | tuple[int, Text]] | AsyncIterable[Text | tuple[int, Text]],
        *,
        ordered: bool = True,
        on_error: OnError = "raise",
        batch_size: int = 64,
        progress: ProgressOption = False,
        timeout: float | None = None,
        **options: Unpack[TokenizeOptions],
    ) -> AsyncGenerator[TokenizedBatch, None]:
        """See Client.tokenize_stream."""
        request = tokenize_request(
            ordered=ordered, on_error=on_error, batch_size=batch_size, progress=progress, **options
        )
        return self._stream(request, texts, timeout)

    def _rpc(self, index: int, name: str) -> Any:
        if self._closed:
            raise ValueError("the client is closed")
        if not self._rpcs:  # a channel belongs to the event loop that runs when it is made
            self._channels = [self._channel(number) for number in range(self._connection.channels)]
            self._rpcs = [stubs(channel) for channel in self._channels]
        return self._rpcs[index][name]

    def _channel(self, index: int) -> grpc.aio.Channel:
        connection = self._connection
        if connection.credentials is None:
            return grpc.aio.insecure_channel(connection.address, connection.options(index))
        return grpc.aio.secure_channel(connection.address, connection.credentials, connection.options(index))

    async def _run(self, operation: Operation[T], timeout: float | None) -> T:
        deadline = Deadline(timeout)
        try:
            calls = next(operation)
            while True:
                try:
                    await self._make(calls, deadline)
                except RpcError as error:
                    calls = operation.throw(error)
                else:
                    calls = next(operation)
        except StopIteration as stop:
            value: T = stop.value
            return value

    async def _make(self, calls: Calls, deadline: Deadline) -> None:
        """Makes the calls, a few at a time, and takes their answers in order."""
        requests, under_way = iter(calls.requests), deque[Any]()
        number = 0
        try:
            while True:
                some = islice(requests, CALLS_UNDER_WAY - len(under_way))
                under_way.extend(self._start(calls.rpc, request, deadline) for request in some)
                if not under_way:
                    return
                try:
                    answer = await answer_of(under_way[0])
                except RpcError as error:
                    raise calls.explain(number, error) from None
                calls.take(number, answer)
                under_way.popleft()
                number += 1
        finally:
            for call in under_way:
                call.cancel()

    def _start(self, rpc: str, request: Any, deadline: Deadline) -> Any:
        timeout = deadline.left(self._connection.timeout)
        index = self._balance.acquire()
        try:
            call = self._rpc(index, rpc)(request, timeout=timeout, metadata=self._connection.metadata)
        except BaseException:
            self._balance.release(index)
            raise
        call.add_done_callback(lambda _: self._balance.release(index))
        return call

    async def _stream(self, request: StreamRequest[T], texts: Any, timeout: float | None) -> AsyncGenerator[T, None]:
        deadline = Deadline(timeout)
        model = await self._run(operations.describe(self._descriptions, request.model), timeout)
        stream = request.stream(model, self._connection.reconnect_seconds)
        report, source = reporter(request.progress, texts), _iterator(texts)
        call: AsyncStreamCall | None = None
        try:
            while True:
                while call and (event := call.poll()):
                    event.tell(stream)
                    report.update(stream.counts)
                match stream.step():
                    case Pull(count):
                        await _pull(stream, source, count)
                    case Send(message) if call:
                        await call.send(message)
                    case Receive() if call:
                        await call.wait()
                    case Emit(batch):
                        yield batch
                    case Open():
                        call = await self._open(request, stream, call, deadline)
                    case HalfClose() if call:
                        await call.half_close()
                    case Sleep(seconds):
                        await asyncio.sleep(deadline.cut(seconds))
                    case Stop():
                        report.update(stream.counts, finished=True)
                        return
        finally:
            if call:
                await call.close(patient=stream.finished)

    async def _open(
        self,
        request: StreamRequest[Any],
        stream: BulkStream[Any, Any],
        old: AsyncStreamCall | None,
        deadline: Deadline,
    ) -> AsyncStreamCall:
        if old:
            await old.close()
        timeout, index = deadline.left(), self._balance.acquire()
        call = AsyncStreamCall(lambda: self._balance.release(index))
        try:
            call.start(self._rpc(index, request.rpc), timeout=timeout, metadata=self._connection.metadata)
            await call.send(stream.options())
        except BaseException:
            await call.close()
            raise
        stream.opened()
        return call


async def answer_of(call: Any) -> Any:
    """A call's answer, or an exception of ours."""
    try:
        return await call
    except grpc.RpcError as error:
        raise error_from_call(error) from None
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise Cancelled("the call was cancelled") from None  # not by this task: the client was closed


def _iterator(texts: Any) -> Any:
    return aiter(texts) if hasattr(texts, "__aiter__") else iter(texts)


async def _pull(stream: BulkStream[Any, Any], source: Any, count: int) -> None:
    texts = await _take(source, count) if isinstance(source, AsyncIterator) else list(islice(source, count))
    if len(texts) < count:
        stream.end()
    stream.add(texts)


async def _take(source: AsyncIterator[Any], count: int) -> list[Any]:
    texts: list[Any] = []
    while len(texts) < count:
        try:
            texts.append(await anext(source))
        except StopAsyncIteration:
            break
    return texts
