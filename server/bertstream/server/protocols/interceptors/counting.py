"""Counts and times every call, under gRPC's own names (gRFC A66)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable
from typing import Any

from bertstream.server.protocols.call import Call, RefusalOf
from bertstream.server.protocols.interceptors.links import Link, Proceed
from bertstream.workers.measuring import frontend_metrics as metrics
from bertstream.workers.measuring.declarations import OTHER
from bertstream.workers.measuring.instruments import Registry, reading
from bertstream.workers.measuring.snapshots import Value

_EXEMPLAR_CHARACTERS = 128  # of its names and values, by OpenMetrics
_TRACE_ID, _REQUEST_ID = "trace_id", "request_id"


class CallMeasures:
    """What is counted of the calls of one frontend."""

    def __init__(self, registry: Registry, methods: Collection[str] = ()) -> None:
        """Take the full names of all methods that there are; calls of any other are counted together."""
        self._methods = frozenset(methods)
        self._started = registry.counter(metrics.CALLS_STARTED)
        self._duration = registry.histogram(metrics.CALL_DURATION)
        self._sent = registry.histogram(metrics.CALL_SENT)
        self._received = registry.histogram(metrics.CALL_RECEIVED)
        self._refusals = registry.counter(metrics.REFUSALS)
        self._by_caller = registry.counter(metrics.CALLER_CALLS)
        self._under_way: set[Call] = set()
        registry.read(self._readings)

    def began(self, call: Call) -> str:
        """Count a call that begins, and return by which name it is counted."""
        known = call.method if call.method in self._methods else OTHER
        self._started.of(known).add()
        self._under_way.add(call)
        call.refused = self._refused
        return known

    def ended(self, known: str, status: str, call: Call) -> None:
        """Count the end of a call that has begun."""
        self._under_way.discard(call)
        self._duration.of(known, status).record(time.monotonic() - call.arrived, exemplar(call))
        self._sent.of(known, status).record(call.sent_bytes)
        self._received.of(known, status).record(call.received_bytes)
        if call.caller.has_key:
            self._by_caller.of(call.caller.name).add()

    def _refused(self, of: RefusalOf, reason: str) -> None:
        self._refusals.of(reason, of).add()

    def _readings(self) -> Iterable[Value]:
        streams = [call.holding for call in self._under_way if call.holding is not None]
        yield reading(metrics.CALLS_UNDER_WAY, len(self._under_way))
        yield reading(metrics.STREAMS, len(streams))
        yield reading(metrics.STREAM_ITEMS, sum(each.items.held for each in streams))
        yield reading(metrics.STREAM_TOKENS, sum(each.tokens.held for each in streams))
        yield reading(metrics.STREAM_BYTES, sum(each.request_bytes.held for each in streams))


def count_calls(measures: CallMeasures) -> Link:
    """Return the link that counts every call once, however it ends."""

    async def counting(call: Call, proceed: Proceed) -> Any:
        known, cancelled = measures.began(call), False
        try:
            return await proceed()
        except asyncio.CancelledError:
            cancelled = True
            raise
        finally:
            measures.ended(known, call.ended(cancelled=cancelled), call)

    return counting


def exemplar(call: Call) -> tuple[tuple[str, str], ...]:
    """Return by what one call among many is found, as far as there is room for it."""
    left, pairs = _EXEMPLAR_CHARACTERS, []
    for pair in ((_TRACE_ID, call.trace_id), (_REQUEST_ID, call.request_id)):
        size = sum(map(len, pair))
        if pair[1] and size <= left:
            pairs.append(pair)
            left -= size
    return tuple(pairs)
