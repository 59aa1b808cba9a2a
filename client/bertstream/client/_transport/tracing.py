"""Spans of methods and of their calls, where the application has OpenTelemetry's API; elsewhere nothing is loaded.

A method's span holds its calls together, of which there may be several: for many texts, or as a stream that broke is
taken up again. Each call tells the server its own span by `traceparent`, or as the application's propagators say.
Sources: OpenTelemetry's semantic conventions for RPC spans (https://opentelemetry.io/docs/specs/semconv/rpc/rpc-spans).
"""

from __future__ import annotations

import functools
import inspect
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType, TracebackType
from typing import Any, Self

import grpc

from bertstream.client._errors import RpcError

SCOPE = "bertstream.client"


@dataclass(frozen=True, slots=True)
class _Api:
    """What is used of OpenTelemetry. The tracer is the application's, also where that sets one up later."""

    trace: ModuleType
    propagate: ModuleType
    tracer: Any


class Method:
    """The span of one method of a client, from its first call to its last; this class records nothing."""

    def active(self) -> AbstractContextManager[Any]:
        """Make it the parent of the calls that begin in a `with` statement."""
        return nullcontext()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass


_NOTHING = Method()


class _TracedMethod(Method):
    def __init__(self, api: _Api, name: str) -> None:
        self._api = api
        self._span = api.tracer.start_span(f"bertstream {name}")

    def active(self) -> AbstractContextManager[Any]:
        within: AbstractContextManager[Any] = self._api.trace.use_span(
            self._span, record_exception=False, set_status_on_exception=False
        )
        return within

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, GeneratorExit):  # a stream may be left before its end
            reason = error.reason if isinstance(error, RpcError) else ""
            _fail(self._api, self._span, reason or type(error).__name__)
        self._span.end()


class TracedRpc:
    """An rpc of a channel, synchronous or not, each of whose calls has a span."""

    def __init__(self, api: _Api, rpc: Any, name: str, address: str) -> None:
        """Take the rpc's full name, "bertstream.v1.EncodingService/EncodeTexts", and the server's address."""
        self._api = api
        self._rpc = rpc
        self._name = name
        self._attributes = {"rpc.system.name": "grpc", "rpc.method": name, **_server(address)}

    def __call__(self, *arguments: Any, metadata: Any = (), **options: Any) -> Any:
        """Begin a call, which is no blocking one."""
        return self._begin(self._rpc, arguments, metadata, options)

    def future(self, *arguments: Any, metadata: Any = (), **options: Any) -> Any:
        """Begin a call of one request and one answer."""
        return self._begin(self._rpc.future, arguments, metadata, options)

    def with_call(self, *arguments: Any, metadata: Any = (), **options: Any) -> Any:
        """Make a call of one request and one answer; return the answer and the call."""
        span, metadata = self._start(metadata)
        try:
            answer, call = self._rpc.with_call(*arguments, metadata=metadata, **options)
        except grpc.RpcError as error:
            _end(self._api, span, error)
            raise
        except BaseException as error:
            self._abandon(span, error)
            raise
        _end(self._api, span, call)
        return answer, call

    def _begin(self, rpc: Any, arguments: Any, metadata: Any, options: Any) -> Any:
        span, metadata = self._start(metadata)
        try:
            call = rpc(*arguments, metadata=metadata, **options)
        except BaseException as error:
            self._abandon(span, error)
            raise
        call.add_done_callback(functools.partial(_end, self._api, span))
        return call

    def _start(self, metadata: Any) -> tuple[Any, Any]:
        """Start a call's span, and return it and the call's metadata, by which the server learns of it."""
        api = self._api
        span = api.tracer.start_span(self._name, kind=api.trace.SpanKind.CLIENT, attributes=self._attributes)
        carried: dict[str, str] = {}
        if not any(name.lower() == "traceparent" for name, _ in metadata):  # the caller's own
            api.propagate.inject(carried, api.trace.set_span_in_context(span))
        return span, (*metadata, *carried.items())

    def _abandon(self, span: Any, error: BaseException) -> None:
        """End the span of a call that did not begin, or that was left."""
        _fail(self._api, span, type(error).__name__)
        span.end()


def method(name: str) -> Method:
    """Begin the span of a method, to be entered at once."""
    api = _api()
    return _NOTHING if api is None else _TracedMethod(api, name)


def traced(rpc: Any, name: str, address: str) -> Any:
    """Return an rpc with spans, or the rpc itself where OpenTelemetry is not there."""
    api = _api()
    return rpc if api is None else TracedRpc(api, rpc, name, address)


@functools.cache
def _api() -> _Api | None:
    try:
        from opentelemetry import propagate, trace
    except ImportError:
        return None
    return _Api(trace, propagate, trace.get_tracer(SCOPE, package_version()))


def package_version() -> str:
    """Return the installed version of this package."""
    try:
        return version("bertstream")
    except PackageNotFoundError:  # run from a source tree
        return "0"


def _end(api: _Api, span: Any, call: Any) -> None:
    code = _code_of(call)
    span.set_attribute("rpc.response.status_code", code.name)
    if code is not grpc.StatusCode.OK:
        _fail(api, span, code.name)
    span.end()


def _fail(api: _Api, span: Any, reason: str) -> None:
    """Mark a span as failed; a message may quote the caller's texts, so it is not told."""
    span.set_attribute("error.type", reason)
    span.set_status(api.trace.StatusCode.ERROR)


def _code_of(call: Any) -> grpc.StatusCode:
    """Return the status of a call that is done; grpc.aio gives it by a coroutine, which then has not to wait."""
    code = call.code()
    if inspect.iscoroutine(code):
        try:
            code.send(None)
        except StopIteration as stop:
            code = stop.value
        else:
            code.close()
    return code if isinstance(code, grpc.StatusCode) else grpc.StatusCode.UNKNOWN


def _server(address: str) -> dict[str, str | int]:
    host, _, port = address.rpartition(":")
    if host and "," not in host and port.isdecimal():
        return {"server.address": host.strip("[]"), "server.port": int(port)}
    return {"server.address": address}
