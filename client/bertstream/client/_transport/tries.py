"""How often a call is tried, where there are several servers: a decision without any I/O.

With one server gRPC itself tries again, see `service_config`. It would ask the same server again where another one
could answer at once, so between several the client decides.
"""

from __future__ import annotations

from collections.abc import Callable

from bertstream.client._calls.backoff import backoff_seconds, may_pass
from bertstream.client._chance import CHANCE
from bertstream.client._errors import RpcError

FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 0.1, 2.0  # as in the service config


class Tries:
    """The tries of one call, each of which may go from one server to the next until one takes it."""

    def __init__(self, servers: int, retries: int, jitter: Callable[[], float] = CHANCE.random) -> None:
        self._servers, self._retries, self._jitter = servers, retries, jitter
        self._failures = 0
        self.refused: set[int] = set()
        """The servers that have failed in this try."""

    def failed(self, server: int, error: RpcError) -> float:
        """Return the seconds after which to call again, a server that has not refused. Raises the error at the end."""
        if self._servers == 1 or not may_pass(error):
            raise error
        self.refused.add(server)
        if len(self.refused) < self._servers:
            return 0.0
        if self._failures == self._retries:
            raise error
        if len(self.refused) == self._servers:
            self.refused.clear()
        delay = backoff_seconds(self._failures, FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS, self._jitter)
        self._failures += 1
        return max(delay, error.retry_after or 0.0)
