"""The transport of the synchronous client, which makes its calls and runs its streams."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from time import monotonic, sleep
from typing import Any, TypeAlias, TypeVar

import grpc

from bertstream.client._calls.events import EventsRequest
from bertstream.client._calls.health import HEALTH_RPC, OPEN_SERVICE, check_request, is_open
from bertstream.client._calls.models import Descriptions, describe
from bertstream.client._calls.progress import reporter
from bertstream.client._calls.requests import StreamRequest
from bertstream.client._calls.steps import Emit, HalfClose, Open, Pull, Receive, Send, Sleep, Stop
from bertstream.client._calls.stream import BulkStream
from bertstream.client._calls.unary_calls import Calls, Operation, name_of
from bertstream.client._errors import Cancelled, RpcError
from bertstream.client._texts import check_stream
from bertstream.client._transport.balance import ANSWER_SECONDS, Place
from bertstream.client._transport.channels import Connection, stubs
from bertstream.client._transport.deadline import Deadline
from bertstream.client._transport.sync_call import End, Inbox, StreamCall
from bertstream.client._transport.tracing import method
from bertstream.client._transport.tries import Tries
from bertstream.client._types import Model

T = TypeVar("T")
ErrorOf: TypeAlias = Callable[[Any], RpcError]  # of what a call has raised
CALLS_UNDER_WAY = 4
PULL_SECONDS = 0.1  # after which what the caller's input has given is sent, although more would fit


@dataclass(slots=True)
class UnderWay:
    """A unary request, and the call that was made last for it."""

    request: Any
    deadline: Deadline
    tries: Tries
    place: Place = field(init=False)
    call: Any = field(init=False)
    error_of: ErrorOf = field(init=False)


class SyncTransport:
    """Runs operations and streams over the client's channels."""

    def __init__(self, connection: Connection) -> None:
        self.descriptions: Descriptions = {}
        self._connection = connection
        self._channels = {place: self._channel(place) for place in connection.places()}
        self._rpcs = {
            place: stubs(channel, connection.servers[place.server]) for place, channel in self._channels.items()
        }
        self._balance = connection.balance()
        self._closed = False

    def close(self) -> None:
        """Close the channels; calls under way raise Cancelled."""
        self._closed = True
        if self._connection.given_channel is None:
            for channel in self._channels.values():
                channel.close()

    def run(self, operation: Operation[T], timeout: float | None) -> T:
        """Run an operation, and return its value."""
        self._check_open()
        deadline = Deadline(timeout)
        with method(name_of(operation)) as traced, traced.active():
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
        with method(request.rpc) as traced:
            with traced.active():
                model = self.run(describe(self.descriptions, request.model), timeout)
            stream = request.stream(model, self._connection, self._best_lane)
            report, source = reporter(request.delivery.progress, texts), iter(texts)
            calls, inbox = dict[int, StreamCall](), Inbox()
            try:
                while True:
                    while event := inbox.poll():
                        event.tell(stream)
                        report.update(stream.counts)
                        if isinstance(event, End):
                            calls.pop(event.lane).close()
                    match stream.step():
                        case Pull(count):
                            pull(stream, source, count)
                        case Send(message, lane):
                            calls[lane].send(message)
                        case Receive():
                            inbox.wait()
                        case Emit(batch):
                            yield batch
                        case Open(lane):
                            with traced.active():
                                calls[lane] = self._open(request, stream, lane, inbox, deadline)
                        case HalfClose(lane):
                            calls[lane].half_close()
                        case Sleep(seconds, _) if deadline.allows(seconds):
                            sleep(seconds)
                        case Sleep(_, error):
                            stream.fail(error)
                        case Stop():
                            report.update(stream.counts, finished=True)
                            return
            finally:
                report.end()
                for call in calls.values():
                    call.close(patient=stream.finished)

    def events(self, request: EventsRequest[T], timeout: float | None) -> Generator[T, None, None]:
        """Yield the events of a call, and of those that take it up where it breaks.

        gRPC reads a message when it is asked to, so that a slow reader slows the server.
        """
        self._check_open()
        deadline, events = Deadline(timeout), request.events(self._connection.reconnect_seconds)
        with method(request.rpc) as traced:
            model: Model | None = None
            if request.needs_model:
                with traced.active():
                    model = self.run(describe(self.descriptions, request.model), timeout)
            tries, begun = self._connection.tries(request.rpc), False
            while True:
                call, place = None, self._acquire(tries)
                try:
                    rpc = self._rpcs[place][request.rpc]
                    message = request.message_for(model)
                    with traced.active():
                        call = rpc(message, timeout=deadline.left(), metadata=self._connection.metadata)
                    for response in call:
                        begun = True
                        if (event := events.receive(response)) is not None:
                            yield event
                    events.ended()
                    return
                except grpc.RpcError as error:
                    failed = self._error_at(place)(error)
                finally:
                    self._balance.release(place)
                    if call is not None:
                        call.cancel()
                delay = events.broken(failed) if begun else tries.failed(place.server, failed)
                sleep(deadline.wait_before(delay, failed))
                self._check_open()

    def _make(self, calls: Calls, deadline: Deadline) -> None:
        """Make the calls, a few at a time, and take their answers in order."""
        all_requests = iter(calls.requests)
        first = list(islice(all_requests, 2))
        if len(first) == 1:
            self._make_alone(calls, first[0], deadline)
            return
        requests, under_way = chain(first, all_requests), deque[Any]()
        number = 0
        try:
            while True:
                under_way.extend(self._start(calls, request, deadline) for request in _some(requests, under_way))
                if not under_way:
                    return
                try:
                    answer = self._answer(calls, under_way[0])
                except RpcError as error:
                    raise calls.explain(number, error) from None
                calls.answered(number, answer)
                under_way.popleft()
                number += 1
        finally:
            for asked in under_way:
                asked.call.cancel()

    def _make_alone(self, calls: Calls, request: Any, deadline: Deadline) -> None:
        """Make the only call, and take its answer."""
        try:
            answer = self._answer_alone(calls.rpc, self._asked(calls, request, deadline))
        except RpcError as error:
            raise calls.explain(0, error) from None
        calls.answered(0, answer)

    def _answer_alone(self, rpc: str, asked: UnderWay) -> Any:
        """Return the answer to a request as `_answer` does, from this thread: for a future gRPC starts another one."""
        while True:
            timeout, place = asked.deadline.left(), self._acquire(asked.tries)
            asked.place = place
            try:
                make = self._rpcs[place][rpc].with_call
                return make(asked.request, timeout=timeout, metadata=self._connection.metadata)[0]
            except grpc.RpcError as error:
                failed = self._error_at(place)(error)
            finally:
                self._balance.release(place)
            self._wait_for_another_try(asked, failed)

    def _asked(self, calls: Calls, request: Any, deadline: Deadline) -> UnderWay:
        timeout = deadline.left(None if calls.patient else self._connection.timeout)
        return UnderWay(request, Deadline(timeout), self._connection.tries(calls.rpc))

    def _start(self, calls: Calls, request: Any, deadline: Deadline) -> UnderWay:
        asked = self._asked(calls, request, deadline)
        self._call(calls, asked)
        return asked

    def _call(self, calls: Calls, asked: UnderWay) -> None:
        """Make a call for a request, to a server that has not refused it."""
        timeout = asked.deadline.left()
        place = asked.place = self._acquire(asked.tries)
        try:
            rpc = self._rpcs[place][calls.rpc]
            asked.call = rpc.future(asked.request, timeout=timeout, metadata=self._connection.metadata)
        except BaseException:
            self._balance.release(place)
            raise
        asked.error_of = self._error_at(place)
        asked.call.add_done_callback(lambda _: self._balance.release(place))

    def _answer(self, calls: Calls, asked: UnderWay) -> Any:
        """Return the answer to a request, from another server where one does not take it."""
        while True:
            try:
                return asked.call.result()
            except (grpc.RpcError, grpc.FutureCancelledError) as error:
                failed = asked.error_of(error)
            self._wait_for_another_try(asked, failed)
            self._call(calls, asked)

    def _wait_for_another_try(self, asked: UnderWay, failed: RpcError) -> None:
        """Wait before a request is sent again. Raises what failed where it may not be, or has no time left."""
        delay = asked.tries.failed(asked.place.server, failed)
        sleep(asked.deadline.wait_before(delay, failed))
        self._check_open()

    def _acquire(self, tries: Tries | None = None) -> Place:
        """Return the place for a new call, and ask servers that took none whether they do again."""
        self._ask_again()
        return self._balance.acquire(tries.refused if tries else ())

    def _best_lane(self, lanes: Sequence[int], at_any_cost: bool) -> int | None:
        self._ask_again()
        return self._connection.best_lane(self._balance, lanes, at_any_cost)

    def _ask_again(self) -> None:
        for server in self._balance.to_ask():
            self._ask(server)

    def _ask(self, server: int) -> None:
        check, metadata = self._rpcs[Place(server, 0)][HEALTH_RPC], self._connection.metadata
        call = check.future(check_request(OPEN_SERVICE), ANSWER_SECONDS, metadata, wait_for_ready=True)

        def answered(call: Any) -> None:
            try:
                opened = is_open(call.result())
            except grpc.RpcError as error:
                opened = is_open(self._connection.error_of(error, server))
            except (RpcError, grpc.FutureCancelledError):  # an answer that makes no sense, or the client is closed
                opened = False
            self._balance.answered(server, opened)

        call.add_done_callback(answered)

    def _open(
        self, request: StreamRequest[Any], stream: BulkStream[Any, Any], lane: int, inbox: Inbox, deadline: Deadline
    ) -> StreamCall:
        self._check_open()
        timeout, place = deadline.left(), self._balance.acquire_at(self._connection.server_of(lane))
        call = StreamCall(lane, inbox, lambda: self._balance.release(place), self._error_at(place))
        try:
            call.start(self._rpcs[place][request.rpc], timeout=timeout, metadata=self._connection.metadata)
            call.send(stream.options())
        except BaseException:
            call.close()
            raise
        stream.opened(lane)
        return call

    def _channel(self, place: Place) -> grpc.Channel:
        if self._connection.given_channel is not None:
            given: grpc.Channel = self._connection.given_channel
            return given
        address, options = self._connection.servers[place.server], self._connection.options(place)
        credentials = self._connection.security.credentials
        if credentials is None:
            return grpc.insecure_channel(address, options)
        return grpc.secure_channel(address, credentials, options)

    def _error_at(self, place: Place) -> ErrorOf:
        """Return what makes an exception of a call's error, and notes what it says of the server."""

        def error_of(error: Any) -> RpcError:
            if isinstance(error, grpc.FutureCancelledError):
                return Cancelled("the call was cancelled")
            return self._balance.failed(place.server, self._connection.error_of(error, place.server))

        return error_of

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("the client is closed")


def pull(stream: BulkStream[Any, Any], source: Iterator[Any], count: int) -> None:
    """Move up to `count` texts from the caller's input to the stream.

    Fewer where the input is slow, so that they are sent, and answers handed out, before there are as many.
    """
    texts, until = list[Any](), monotonic() + PULL_SECONDS
    for text in islice(source, count):
        texts.append(text)
        if monotonic() >= until:
            break
    else:
        if len(texts) < count:
            stream.end()
    stream.add(texts)


def _some(requests: Iterator[Any], under_way: Sequence[Any]) -> Iterator[Any]:
    return islice(requests, CALLS_UNDER_WAY - len(under_way))
