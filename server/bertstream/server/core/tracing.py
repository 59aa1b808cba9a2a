"""Record what is done for a call, and when, as spans; whoever is given a finished trace exports it.

The terms are OpenTelemetry's (https://opentelemetry.io/docs/specs/otel/trace/api), which nothing here imports. Where a
call is not traced, a span costs a look at one context variable.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextvars import ContextVar, Token
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from bertstream.server.core.errors import RequestError

MOST_SPANS = 128  # of one call; those that come later are only counted, since a stream may have any number of them
_LOW_BITS = 1 << 64  # by the lower half of a trace's id all services of a trace decide alike
_CHANCE = random.Random()  # not the module's own generator, which others may seed, so that ids come twice
Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Parent:
    """The span of a caller's that a call belongs to, as W3C Trace Context tells of it."""

    trace_id: int
    span_id: int
    sampled: bool
    state: str = ""  # what the tracing systems on the way want to be passed on


class Span:
    """A part of a call's work, which lasts while a `with` statement runs; this class records nothing."""

    __slots__ = ()

    @property
    def recorded(self) -> bool:
        """Whether anything told to this span is kept."""
        return False

    @property
    def ids(self) -> tuple[int, int]:
        """The ids of the trace and of the span, for lines in the log; 0 where a call has none."""
        return 0, 0

    def child(self, name: str) -> Span:
        """Return a span within this one, which begins now."""
        return self

    def over(self, name: str, start: float, seconds: float) -> None:
        """Record a part of this span that is over; `start` is of `time.monotonic()`."""

    def set(self, **attributes: Value) -> None:
        """Note what was done, never a text of a caller's."""

    def event(self, name: str) -> None:
        """Note that something happened now."""

    def fail(self, reason: str) -> None:
        """Note that this part failed, unless a reason is known already."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass


NOTHING = Span()
_CURRENT: ContextVar[Span] = ContextVar("span", default=NOTHING)


def current() -> Span:
    """Return the span that the running task is in."""
    return _CURRENT.get()


def span(name: str) -> Span:
    """Return a span within the current one, to be entered."""
    return _CURRENT.get().child(name)


class _Entered(Span):
    """A span that is the current one while its `with` statement runs."""

    __slots__ = ("_ids", "_token")
    _ids: tuple[int, int]
    _token: Token[Span]

    @property
    def ids(self) -> tuple[int, int]:
        return self._ids

    def __enter__(self) -> Self:
        self._token = _CURRENT.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _CURRENT.reset(self._token)


class _Unsampled(_Entered):
    """The span of a call that has ids for the log, but is not recorded."""

    __slots__ = ()

    def __init__(self, trace_id: int) -> None:
        self._ids = trace_id, _new_id(64)

    def child(self, name: str) -> Span:
        return NOTHING


class RecordedSpan(_Entered):
    """A span that is kept; seconds are of `time.monotonic()`."""

    __slots__ = ("attributes", "end", "error", "events", "name", "parent_id", "start", "trace")

    def __init__(self, trace: Trace, name: str, parent_id: int, start: float) -> None:
        self.trace = trace
        self.name = name
        self._ids = trace.trace_id, _new_id(64)
        self.parent_id = parent_id  # 0: there is none
        self.start = start
        self.end = 0.0  # 0: it goes on
        self.attributes: dict[str, Value] = {}
        self.events: list[tuple[str, float]] = []
        self.error = ""  # the reason of a failure

    @property
    def recorded(self) -> bool:
        return True

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return self.end - self.start

    def child(self, name: str) -> Span:
        return self.trace.add(name, self.ids[1], time.monotonic())

    def over(self, name: str, start: float, seconds: float) -> None:
        made = self.trace.add(name, self.ids[1], start)
        if isinstance(made, RecordedSpan):
            made.end = start + seconds

    def set(self, **attributes: Value) -> None:
        self.attributes.update(attributes)

    def event(self, name: str) -> None:
        self.events.append((name, time.monotonic()))

    def fail(self, reason: str) -> None:
        self.error = self.error or reason

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)
        if error is not None and self is not self.trace.root:  # how a call ends, its status says
            self.fail(_reason_of(error))
        self.end = self.end or time.monotonic()
        if self is self.trace.root:
            self.trace.finish()


class Trace:
    """The spans of one call, which are exported when it has ended."""

    def __init__(self, name: str, trace_id: int, parent: Parent | None, export: Callable[[Trace], None]) -> None:
        self.trace_id = trace_id
        self.parent = parent
        self.epoch = time.time() - time.monotonic()  # in seconds: what makes times of spans times of day
        self.spans: list[RecordedSpan] = []
        self.left_out = 0
        self._export = export
        self._finished = False
        self.root = RecordedSpan(self, name, parent.span_id if parent else 0, time.monotonic())
        self.spans.append(self.root)

    def add(self, name: str, parent_id: int, start: float) -> Span:
        """Return a new span, or one that records nothing where there are too many, or the call has ended."""
        if self._finished or len(self.spans) >= MOST_SPANS:
            self.left_out += 1
            return NOTHING
        made = RecordedSpan(self, name, parent_id, start)
        self.spans.append(made)
        return made

    def finish(self) -> None:
        """End the spans of tasks that were cancelled but have not noticed yet, and pass the trace on."""
        self._finished = True
        for each in self.spans:
            each.end = each.end or self.root.end
        self._export(self)


class Tracer:
    """Begins the trace of each call; its caller decides whether it is recorded, or else chance does."""

    def __init__(self, ratio: float, export: Callable[[Trace], None]) -> None:
        """Take the part, from 0 to 1, of the traces to record that begin here."""
        self._ratio = ratio
        self._export = export

    def begin(self, name: str, parent: Parent | None) -> Span:
        """Return the span of a whole call, to be entered."""
        trace_id = parent.trace_id if parent else _new_id(128)
        if not is_sampled(parent, trace_id, self._ratio):
            return _Unsampled(trace_id)
        return Trace(name, trace_id, parent, self._export).root


def is_sampled(parent: Parent | None, trace_id: int, ratio: float) -> bool:
    """Decide as OpenTelemetry's ParentBased(TraceIdRatioBased) does."""
    return parent.sampled if parent else trace_id % _LOW_BITS < round(ratio * _LOW_BITS)


def _new_id(bits: int) -> int:
    """Return a random id, which must not be 0."""
    return _CHANCE.getrandbits(bits) or 1


def _reason_of(error: BaseException) -> str:
    """Return what may be told of an error: never its message, which may quote a text."""
    if isinstance(error, RequestError):
        return error.reason
    return "CANCELLED" if isinstance(error, asyncio.CancelledError) else type(error).__name__
