"""The synchronous client."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import islice
from time import sleep
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import grpc

from bertstream.client import _operations as operations
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
from bertstream.client._sync_call import StreamCall
from bertstream.client._texts import Text, listed
from bertstream.client._types import EncodedBatch, FloatArray, Health, Model, Output, Outputs, TokenizedBatch, Tokens

T = TypeVar("T")
CALLS_UNDER_WAY = 4


class Client:
    """A connection to a bertstream server.

    ```python
    with Client("127.0.0.1:50051") as client:
        vectors = client.encode(["Hello!", "Good day!"], pooling="mean", normalize=True)  # [2, hidden]
    ```

    A text is a str, a pair (a tuple of two str), a list of words, or token ids (a list of int, an integer array or
    Tokens); a list may mix them. What is raised is a BertstreamError, or TypeError or ValueError for misuse. May be
    used by several threads at once.

    Args:
        address: `host:port`, or any other gRPC target.
        timeout: seconds that one message of a unary call may take, where a method's `timeout` does not say; None for
            no end. Streams have no end unless their `timeout` says.
        channels: connections, opened as they are needed. With several frontend processes on one port each connection
            has its own; a call takes the one with the fewest calls under way.
        retries: how often gRPC tries a unary call again (0 to 4) that failed with UNAVAILABLE or RESOURCE_EXHAUSTED.
        credentials: for TLS; None for plain text.
        metadata: pairs sent with every call, such as an API key.
        max_message_bytes: the largest message to send or to take.
        reconnect_seconds: how long to try to open a broken stream again before its error is raised.
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
        self._channels = [self._channel(index) for index in range(channels)]
        self._rpcs = [stubs(channel) for channel in self._channels]
        self._balance = LeastLoaded(channels)
        self._descriptions: Descriptions = {}
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections; calls under way raise Cancelled."""
        self._closed = True
        for channel in self._channels:
            channel.close()

    def health(self, service: str = "", *, timeout: float | None = None) -> Health:
        """The health of the server, or of one service or model. True in a condition where it serves."""
        return self._run(operations.health(service), timeout)

    def models(self, *, timeout: float | None = None) -> list[Model]:
        """The served models, the default one first."""
        return self._run(operations.list_models(), timeout)[0]

    def model(self, name: str = "", *, timeout: float | None = None) -> Model:
        """One model; with no name the default one. Raises NotFound."""
        return self._run(operations.get_model(name), timeout)

    def server_version(self, *, timeout: float | None = None) -> str:
        """The server's version, such as "0.1.0"."""
        return self._run(operations.list_models(), timeout)[1]

    def tokenize(
        self, texts: Text | Iterable[Text], *, timeout: float | None = None, **options: Unpack[TokenizeOptions]
    ) -> list[Tokens]:
        """Tokens of each text, in order; with `overflow` or `stride` of each window. A str is as a list of one."""
        return self._run(operations.tokenize(self._descriptions, texts, **options), timeout)

    def detokenize(
        self,
        token_ids: Iterable[Text],
        *,
        skip_special_tokens: bool = False,
        model: str = "",
        timeout: float | None = None,
    ) -> list[str]:
        """A text for each list (or array, or Tokens) of ids."""
        return self._run(operations.detokenize(self._descriptions, token_ids, skip_special_tokens, model), timeout)

    def encode(
        self, texts: Text | Iterable[Text], *, timeout: float | None = None, **options: Unpack[EncodeOptions]
    ) -> FloatArray:
        """Pooled vectors [n, d] in the order of the texts; for one str (or Tokens) alone [d].

        float32, or float16 with `wire_type="float16"`; yours to write to. A long list is cut into messages, of which
        several are under way. No texts give [0, d]. For corpora see `encode_stream`.
        """
        return self._run(operations.encode(self._descriptions, texts, **options), timeout)

    def forward(
        self,
        texts: Text | Iterable[Text],
        outputs: Sequence[Output] = ALL_OUTPUTS,
        *,
        timeout: float | None = None,
        **options: Unpack[EncodeOptions],
    ) -> list[Outputs]:
        """Outputs of the encoder for each text, in order, without padding; of any size. A str is as a list of one."""
        request = forward_request(outputs, **options)
        return [row for rows in self._stream(request, listed(texts)[0], timeout) for row in rows]

    def encode_stream(
        self,
        texts: Iterable[Text | tuple[int, Text]],
        *,
        ordered: bool = True,
        on_error: OnError = "raise",
        batch_size: int = 64,
        progress: ProgressOption = False,
        timeout: float | None = None,
        **options: Unpack[EncodeOptions],
    ) -> Generator[EncodedBatch, None, None]:
        """Vectors of a corpus of any size, in constant memory: batches of `batch_size` texts (the last may be smaller).

        Items may be (id, text) with an id of yours; else the position counts as the id. `texts` is iterated in the
        thread that iterates the result, never far ahead of it. With `ordered=False` rows come as they are ready.
        `on_error="raise"` raises a failed item's exception (`item_id` says which) after all rows that were ready
        before it; "collect" lists it in `errors`, its row NaN. A connection that breaks is opened again, and only
        what was not answered is sent again. Closing the generator cancels the call. `timeout` is for all of it.
        """
        request = encode_request(
            ordered=ordered, on_error=on_error, batch_size=batch_size, progress=progress, **options
        )
        return self._stream(request, texts, timeout)

    def tokenize_stream(
        self,
        texts: Iterable[Text | tuple[int, Text]],
        *,
        ordered: bool = True,
        on_error: OnError = "raise",
        batch_size: int = 64,
        progress: ProgressOption = False,
        timeout: float | None = None,
        **options: Unpack[TokenizeOptions],
    ) -> Generator[TokenizedBatch, None, None]:
        """Tokens of a corpus of any size; as `encode_stream`, but that failed items have no Tokens."""
        request = tokenize_request(
            ordered=ordered, on_error=on_error, batch_size=batch_size, progress=progress, **options
        )
        return self._stream(request, texts, timeout)

    def _channel(self, index: int) -> grpc.Channel:
        connection = self._connection
        if connection.credentials is None:
            return grpc.insecure_channel(connection.address, connection.options(index))
        return grpc.secure_channel(connection.address, connection.credentials, connection.options(index))

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("the client is closed")

    def _run(self, operation: Operation[T], timeout: float | None) -> T:
        self._check_open()
        deadline = Deadline(timeout)
        try:
            calls = next(operation)
            while True:
                try:
                    self._make(calls, deadline)
                except RpcError as error:
                    calls = operation.throw(error)
                else:
                    calls = next(operation)
        except StopIteration as stop:
            value: T = stop.value
            return value

    def _make(self, calls: Calls, deadline: Deadline) -> None:
        """Makes the calls, a few at a time, and takes their answers in order."""
        requests, under_way = iter(calls.requests), deque[Any]()
        number = 0
        try:
            while True:
                under_way.extend(self._start(calls.rpc, request, deadline) for request in _some(requests, under_way))
                if not under_way:
                    return
                try:
                    answer = under_way[0].result()
                except (grpc.RpcError, grpc.FutureCancelledError) as error:
                    raise calls.explain(number, _error(error)) from None
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
            call = self._rpcs[index][rpc].future(request, timeout=timeout, metadata=self._connection.metadata)
        except BaseException:
            self._balance.release(index)
            raise
        call.add_done_callback(lambda _: self._balance.release(index))
        return call

    def _stream(
        self, request: StreamRequest[T], texts: Iterable[Any], timeout: float | None
    ) -> Generator[T, None, None]:
        deadline = Deadline(timeout)
        model = self._run(operations.describe(self._descriptions, request.model), timeout)
        stream = request.stream(model, self._connection.reconnect_seconds)
        report, source = reporter(request.progress, texts), iter(texts)
        call: StreamCall | None = None
        try:
            while True:
                while call and (event := call.poll()):
                    event.tell(stream)
                    report.update(stream.counts)
                match stream.step():
                    case Pull(count):
                        pull(stream, source, count)
                    case Send(message) if call:
                        call.send(message)
                    case Receive() if call:
                        call.wait()
                    case Emit(batch):
                        yield batch
                    case Open():
                        call = self._open(request, stream, call, deadline)
                    case HalfClose() if call:
                        call.half_close()
                    case Sleep(seconds):
                        sleep(deadline.cut(seconds))
                    case Stop():
                        report.update(stream.counts, finished=True)
                        return
        finally:
            if call:
                call.close(patient=stream.finished)

    def _open(
        self, request: StreamRequest[Any], stream: BulkStream[Any, Any], old: StreamCall | None, deadline: Deadline
    ) -> StreamCall:
        if old:
            old.close()
        self._check_open()
        timeout, index = deadline.left(), self._balance.acquire()
        call = StreamCall(lambda: self._balance.release(index))
        try:
            call.start(self._rpcs[index][request.rpc], timeout=timeout, metadata=self._connection.metadata)
            call.send(stream.options())
        except BaseException:
            call.close()
            raise
        stream.opened()
        return call


def pull(stream: BulkStream[Any, Any], source: Iterator[Any], count: int) -> None:
    """Takes texts from the caller's input."""
    texts = list(islice(source, count))
    if len(texts) < count:
        stream.end()
    stream.add(texts)


def _some(requests: Iterator[Any], under_way: Sequence[Any]) -> Iterator[Any]:
    return islice(requests, CALLS_UNDER_WAY - len(under_way))


def _error(error: grpc.RpcError | grpc.FutureCancelledError) -> RpcError:
    return error_from_call(error) if isinstance(error, grpc.RpcError) else Cancelled("the call was cancelled")
