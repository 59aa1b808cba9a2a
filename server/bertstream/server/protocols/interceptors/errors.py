"""The one link that turns errors into answers, in the form of the call's protocol."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import grpc

from bertstream.server.core.errors import RequestError, internal
from bertstream.server.protocols.call import Call, CallerGone
from bertstream.server.protocols.interceptors.links import Proceed

log = logging.getLogger(__name__)


async def answer_errors(call: Call, proceed: Proceed) -> Any:
    """End a call that fails with an error that has details and the request id, never with a traceback."""
    try:
        return await call.complete(await proceed())
    except grpc.aio.AbortError:
        raise
    except CallerGone:
        raise asyncio.CancelledError from None
    except RequestError as error:
        return await _fail(call, error)
    except Exception:  # a bug of ours: the caller gets a request id, the log gets the traceback
        log.exception("%s failed", call.method, extra={"request_id": call.request_id})
        return await _fail(call, internal())


async def _fail(call: Call, error: RequestError) -> Any:
    call.refused("call", error.reason)
    return await call.fail(error)
