"""Writes a line in the log for each call."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from bertstream.server.protocols.call import Call
from bertstream.server.protocols.interceptors.links import Proceed

log = logging.getLogger(__name__)


async def log_call(call: Call, proceed: Proceed) -> Any:
    """Log how the call ended, its request id and its duration, at the level `debug`."""
    cancelled = False
    try:
        return await proceed()
    except asyncio.CancelledError:
        cancelled = True
        raise
    finally:
        milliseconds = round((time.monotonic() - call.arrived) * 1e3, 1)
        code = call.ended(cancelled=cancelled)
        extra = {"request_id": call.request_id, "caller": call.caller.name, "milliseconds": milliseconds}
        log.debug("%s %s", call.method, code, extra=extra)
