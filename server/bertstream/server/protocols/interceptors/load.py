"""Reports the server's load in the trailers of each call, for balancers that choose by it (ORCA)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import grpc

from bertstream.server.core.errors import Code, RequestError
from bertstream.server.core.load import Rate
from bertstream.server.protocols.call import Call, CallerGone
from bertstream.server.protocols.interceptors.links import Link, Proceed

REPORT_SECONDS = 0.1  # for which a report is used again
# A balancer sends less to a server that fails; these are what sending less is good for.
_OWN_FAILURES = frozenset((Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.INTERNAL))


class CountedCalls:
    """The rates of calls and of failures, which the link counts."""

    def __init__(self) -> None:
        self.calls, self.failures = Rate(), Rate()


class Reused:
    """A report that is made anew when it is wanted, but ten times a second at most."""

    def __init__(self, make: Callable[[], bytes], clock: Callable[[], float] = time.monotonic) -> None:
        self._make = make
        self._clock = clock
        self._made, self._until = b"", 0.0

    def __call__(self) -> bytes:
        """Return the report's bytes."""
        if (now := self._clock()) >= self._until:
            self._made, self._until = self._make(), now + REPORT_SECONDS
        return self._made


def report_load(name: str, report: Callable[[], bytes], counted: CountedCalls) -> Link:
    """Return the link that counts calls, and adds the report to their trailers under this name.

    It belongs within the link that identifies callers, so that nobody else learns of the load.
    """

    async def reporting(call: Call, proceed: Proceed) -> Any:
        counted.calls.add()
        try:
            return await proceed()
        except Exception as error:
            if is_own_failure(error):
                counted.failures.add()
            raise
        finally:
            call.trailers[name] = report()

    return reporting


def is_own_failure(error: Exception) -> bool:
    """Tell whether the server is to blame for a failure, or has no room, rather than its caller."""
    if isinstance(error, RequestError):
        return error.code in _OWN_FAILURES and error.reason not in ("QUOTA_EXCEEDED", "READER_STALLED")
    return not isinstance(error, CallerGone | grpc.aio.BaseError)  # gRPC's tell that a handler has ended its call
