# ruff: noqa: ASYNC109 - a timeout here is the deadline that is sent to the server
"""The transport of the asynchronous client, which makes its calls and runs its streams."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from itertools import islice
from time import monotonic
from typing import Any, TypeVar

import grpc

from bertstream.client._calls.events import EventsRequest
from bertstream.client._calls.models import Descriptions, describe
from bertstream.client._calls.progress import reporter
from bertstream.client._calls.requests import StreamRequest
from bertstream.client._calls.steps import Emit, HalfClose, Open, Pull, Receive, Send, Sleep, Stop
from bertstream.client._calls.stream import BulkStream
from bertstream.client._calls.unary_calls import Calls, Operation, name_of
from bertstream.client._errors import Cancelled, RpcError, parsed
from bertstream.client._texts import check_stream
from bertstream.client._transport.async_call import AsyncInbox, AsyncStreamCall
from bertstream.client._transport.async_channels import AsyncChannels, LoopChannels
from bertstream.client._transport.channels import Connection
from bertstream.client._transport.deadline import Deadline
from bertstream.client._transport.sync_call import End
from bertstream.client._transport.sync_transport import CALLS_UNDER_WAY, PULL_SECONDS, ErrorOf, UnderWay, pull
from bertstream.client._transport.tracing import method
from bertstream.client._types import Model

T = TypeVar("T")


class AsyncTransport:
    """Runs operations and streams over the client's channels."""

    def __init__(self, connection: Connection) -> None:
        self.descriptions: Descriptions = {}
        self._connection = connection
        self._channels = AsyncChannels(connection)

    async def close(self) -> None:
        """Close the channels; calls under way raise Cancelled."""
        await self._channels.close()

    async def run(self, operation: Operation[T], timeout: float | None) -> T:
        """Run an operation, and return its value."""
        deadline = Deadline(timeout)
        with method(name_of(operation)) as traced, traced.active():
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

    async def stream(self, request: StreamRequest[T], texts: Any, timeout: float | None) -> AsyncGenerator[T, None]:
        """Run a bulk stream, and yield its batches."""
        check_stream(texts)
        deadline = Deadline(timeout)
        with method(request.rpc) as traced:
            with traced.active():
                model = await self.run(describe(self.descriptions, request.model), timeout)
            stream = request.stream(model, self._connection, self._best_lane)
            report, source = reporter(request.delivery.progress, texts), _iterator(texts)
            calls, inbox = dict[int, AsyncStreamCall](), AsyncInbox()
            try:
                while True:
                    while event := inbox.poll():
                        event.tell(stream)
                        report.update(stream.counts)
                        if isinstance(event, End):
                            await calls.pop(event.lane).close()
                    match stream.step():
                        case Pull(count):
                            await pull_async(stream, source, count)
                        case Send(message, lane):
                            await calls[lane].send(message)
                        case Receive():
                            await inbox.wait()
                        case Emit(batch):
                            yield batch
                        case Open(lane):
                            with traced.active():
                                calls[lane] = await self._open(request, stream, lane, inbox, deadline)
                        case HalfClose(lane):
                            await calls[lane].half_close()
                        case Sleep(seconds, _) if deadline.allows(seconds):
                            await asyncio.sleep(seconds)
                        case Sleep(_, error):
                            stream.fail(error)
                        case Stop():
                            report.update(stream.counts, finished=True)
                            return
            finally:
                report.end()
                for call in calls.values():
                    await call.close(patient=stream.finished)

    async def events(self, request: EventsRequest[T], timeout: float | None) -> AsyncGenerator[T, None]:
        """Yield the events of a call, and of those that take it up where it breaks.

        gRPC reads a message when it is asked to, so that a slow reader slows the server.
        """
        deadline, events = Deadline(timeout), request.events(self._connection.reconnect_seconds)
        with method(request.rpc) as traced:
            model: Model | None = None
            if request.needs_model:
                with traced.active():
                    model = await self.run(describe(self.descriptions, request.model), timeout)
            tries, begun = self._connection.tries(request.rpc), False
            while True:
                message, channels = request.message_for(model), self._channels.here()
                call, place = None, channels.acquire(tries.refused)
                error_of = channels.error_at(place)
                try:
                    rpc = channels.rpcs[place][request.rpc]
                    with traced.active():
                        call = rpc(message, timeout=deadline.left(), metadata=self._connection.metadata)
                    while (response := await _message_of(call, error_of)) is not None:
                        begun = True
                        if (event := events.receive(response)) is not None:
                            yield event
                    events.ended()
                    return
                except RpcError as error:
                    failed = error
                finally:
                    channels.release(place, call)
                    if call is not None:
                        call.cancel()
                delay = events.broken(failed) if begun else tries.failed(place.server, failed)
                await asyncio.sleep(deadline.wait_before(delay, failed))

    async def _make(self, calls: Calls, deadline: Deadline) -> None:
        """Make the calls, a few at a time, and take their answers in order."""
        requests, under_way = iter(calls.requests), deque[Any]()
        number = 0
        try:
            while True:
                some = islice(requests, CALLS_UNDER_WAY - len(under_way))
                under_way.extend(self._start(calls, request, deadline) for request in some)
                if not under_way:
                    return
                try:
                    answer = await self._answer(calls, under_way[0])
                except RpcError as error:
                    raise calls.explain(number, error) from None
                calls.answered(number, answer)
                under_way.popleft()
                number += 1
        finally:
            for asked in under_way:
                asked.call.cancel()

    def _start(self, calls: Calls, request: Any, deadline: Deadline) -> UnderWay:
        timeout = deadline.left(None if calls.patient else self._connection.timeout)
        asked = UnderWay(request, Deadline(timeout), self._connection.tries(calls.rpc))
        self._call(calls, asked, self._channels.here())
        return asked

    def _call(self, calls: Calls, asked: UnderWay, channels: LoopChannels) -> None:
        """Make a call for a request, to a server that has not refused it."""
        timeout = asked.deadline.left()
        place = asked.place = channels.acquire(asked.tries.refused)
        try:
            rpc = channels.rpcs[place][calls.rpc]
            asked.call = rpc(asked.request, timeout=timeout, metadata=self._connection.metadata)
        except BaseException:
            channels.release(place, None)
            raise
        asked.error_of = channels.error_at(place)
        asked.call.add_done_callback(lambda call: channels.release(place, call))

    async def _answer(self, calls: Calls, asked: UnderWay) -> Any:
        """Return the answer to a request, from another server where one does not take it."""
        while True:
            try:
                return await _answer_of(asked.call, asked.error_of)
            except RpcError as error:
                failed = error
            delay = asked.tries.failed(asked.place.server, failed)
            await asyncio.sleep(asked.deadline.wait_before(delay, failed))
            self._call(calls, asked, self._channels.here())

    async def _open(
        self,
        request: StreamRequest[Any],
        stream: BulkStream[Any, Any],
        lane: int,
        inbox: AsyncInbox,
        deadline: Deadline,
    ) -> AsyncStreamCall:
        timeout, channels = deadline.left(), self._channels.here()
        place = channels.acquire_at(self._connection.server_of(lane))
        call = AsyncStreamCall(lane, inbox, lambda begun: channels.release(place, begun), channels.error_at(place))
        try:
            call.start(channels.rpcs[place][request.rpc], timeout=timeout, metadata=self._connection.metadata)
            await call.send(stream.options())
        except BaseException:
            await call.close()
            raise
        stream.opened(lane)
        return call

    def _best_lane(self, lanes: Sequence[int], at_any_cost: bool) -> int | None:
        return self._channels.here().best_lane(lanes, at_any_cost)


async def _answer_of(call: Any, error_of: ErrorOf) -> Any:
    """Return a call's answer. Raises the SDK's exceptions."""
    try:
        return parsed(await call)
    except grpc.RpcError as error:
        raise error_of(error) from None
    except asyncio.CancelledError:
        if _is_task_cancelled():
            raise
        raise Cancelled("the call was cancelled") from None  # by closing the client, not by cancelling this task


async def _message_of(call: Any, error_of: ErrorOf) -> Any:
    """Return the next message of a streaming call, or None after the last. Raises the SDK's exceptions."""
    try:
        message = await call.read()
        if message is not grpc.aio.EOF:
            return parsed(message)
        if await call.code() is grpc.StatusCode.OK:
            return None
    except grpc.RpcError as error:
        raise error_of(error) from None
    except asyncio.CancelledError:
        if _is_task_cancelled():
            raise
    raise Cancelled("the call was cancelled")


def _is_task_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _iterator(texts: Any) -> Any:
    return aiter(texts) if hasattr(texts, "__aiter__") else iter(texts)


async def pull_async(stream: BulkStream[Any, Any], source: Any, count: int) -> None:
    """Move up to `count` texts from the caller's input to the stream, as the synchronous client does."""
    if not isinstance(source, AsyncIterator):
        pull(stream, source, count)
        return
    texts, until = list[Any](), monotonic() + PULL_SECONDS
    while not texts or (len(texts) < count and monotonic() < until):
        try:
            texts.append(await anext(source))
        except StopAsyncIteration:
            stream.end()
            break
    stream.add(texts)
