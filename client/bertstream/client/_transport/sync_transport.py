"""The transport of the synchronous client, which makes its calls and runs its streams."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import islice
from time import sleep
from typing import Any, TypeVar

import grpc

from bertstream.client._calls.events import EventsRequest
from bertstream.client._calls.models import Descriptions, describe
from bertstream.client._calls.progress import reporter
from bertstream.client._calls.requests import StreamRequest
from bertstream.client._calls.steps import Emit, HalfClose, Open, Pull, Receive, Send, Sleep, Stop
from bertstream.client._calls.stream import BulkStream
from bertstream.client._calls.unary_calls import Calls, Operation
from bertstream.client._errors import Cancelled, RpcError
from bertstream.client._texts import check_stream
from bertstream.client._transport.channels import Connection, LeastLoaded, stubs
from bertstream.client._transport.deadline import Deadline
from bertstream.client._transport.sync_call import StreamCall
from bertstream.client._types import Model

T = TypeVar("T")
CALLS_UNDER_WAY = 4


class SyncTransport:
    """Runs operations and streams over the client's channels."""

    def __init__(self, connection: Connection) -> None:
        self.descriptions: Descriptions = {}
        self._connection = connection
        self._channels = [self._channel(index) for index in range(connection.channels)]
        self._rpcs = [stubs(channel) for channel in self._channels]
        self._balance = LeastLoaded(connection.channels)
        self._closed = False

    def close(self) -> None:
        """Close the channels; calls under way raise Cancelled."""
        self._closed = True
        for channel in self._channels:
            channel.close()

    def run(self, operation: Operation[T], timeout: float | None) -> T:
        """Run an operation, and return its value."""
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

    def stream(
        self, request: StreamRequest[T], texts: Iterable[Any], timeout: float | None
    ) -> Generator[T, None, None]:
        """Run a bulk stream, and yield its batches."""
        check_stream(texts)
        deadline = Deadline(timeout)
        model = self.run(describe(self.descriptions, request.model), timeout)
        stream = request.stream(model, self._connection.reconnect_seconds)
        report, source = reporter(request.delivery.progress, texts), iter(texts)
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
            report.end()
            if call:
                call.close(patient=stream.finished)

    def events(self, request: EventsRequest[T], timeout: float | None) -> Generator[T, None, None]:
        """Yield the events of a call, and of those that take it up where it breaks.

        gRPC reads a message when it is asked to, so that a slow reader slows the server.
        """
        self._check_open()
        deadline, events = Deadline(timeout), request.events(self._connection.reconnect_seconds)
        model: Model | None = None
        if request.needs_model:
            model = self.run(describe(self.descriptions, request.model), timeout)
        while True:
            call, index = None, self._balance.acquire()
            try:
                rpc = self._rpcs[index][request.rpc]
                message = request.message_for(model)
                call = rpc(message, timeout=deadline.left(), metadata=self._connection.metadata)
                for response in call:
                    if (event := events.receive(response)) is not None:
                        yield event
                events.ended()
                return
            except grpc.RpcError as error:
                failed = self._connection.error_of(error)
            finally:
                self._balance.release(index)
                if call is not None:
                    call.cancel()
            sleep(deadline.cut(events.broken(failed)))
            self._check_open()

    def _make(self, calls: Calls, deadline: Deadline) -> None:
        """Make the calls, a few at a time, and take their answers in order."""
        requests, under_way = iter(calls.requests), deque[Any]()
        number = 0
        try:
            while True:
                under_way.extend(self._start(calls, request, deadline) for request in _some(requests, under_way))
                if not under_way:
                    return
                try:
                    answer = under_way[0].result()
                except (grpc.RpcError, grpc.FutureCancelledError) as error:
                    raise calls.explain(number, self._error(error)) from None
                calls.answered(number, answer)
                under_way.popleft()
                number += 1
        finally:
            for call in under_way:
                call.cancel()

    def _start(self, calls: Calls, request: Any, deadline: Deadline) -> Any:
        timeout = deadline.left(None if calls.patient else self._connection.timeout)
        index = self._balance.acquire()
        try:
            call = self._rpcs[index][calls.rpc].future(request, timeout=timeout, metadata=self._connection.metadata)
        except BaseException:
            self._balance.release(index)
            raise
        call.add_done_callback(lambda _: self._balance.release(index))
        return call

    def _open(
        self, request: StreamRequest[Any], stream: BulkStream[Any, Any], old: StreamCall | None, deadline: Deadline
    ) -> StreamCall:
        if old:
            old.close()
        self._check_open()
        timeout, index = deadline.left(), self._balance.acquire()
        call = StreamCall(lambda: self._balance.release(index), self._connection.error_of)
        try:
            call.start(self._rpcs[index][request.rpc], timeout=timeout, metadata=self._connection.metadata)
            call.send(stream.options())
        except BaseException:
            call.close()
            raise
        stream.opened()
        return call

    def _channel(self, index: int) -> grpc.Channel:
        connection = self._connection
        if connection.security.credentials is None:
            return grpc.insecure_channel(connection.address, connection.options(index))
        return grpc.secure_channel(connection.address, connection.security.credentials, connection.options(index))

    def _error(self, error: grpc.RpcError | grpc.FutureCancelledError) -> RpcError:
        cancelled = not isinstance(error, grpc.RpcError)
        return Cancelled("the call was cancelled") if cancelled else self._connection.error_of(error)

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("the client is closed")


def pull(stream: BulkStream[Any, Any], source: Iterator[Any], count: int) -> None:
    """Move up to `count` texts from the caller's input to the stream."""
    texts = list(islice(source, count))
    if len(texts) < count:
        stream.end()
    stream.add(texts)


def _some(requests: Iterator[Any], under_way: Sequence[Any]) -> Iterator[Any]:
    return islice(requests, CALLS_UNDER_WAY - len(under_way))
