"""The one link that turns errors into statuses."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import grpc

from bertstream.server.core.errors import RequestError, internal
from bertstream.server.protocols.call import Call, CallerGone
from bertstream.server.protocols.interceptors.chain import Proceed
from bertstream.server.protocols.statuses import code_of, to_status

log = logging.getLogger(__name__)


async def answer_errors(call: Call, proceed: Proceed) -> Any:
    """End a call that fails with a status that has details and the request id, never with a traceback."""
    # In the trailers of every call, since services that are not ours end calls by themselves.
    call.context.set_trailing_metadata(tuple(call.trailers.items()))
    try:
        answer = await proceed()
        call.context.set_trailing_metadata(tuple(call.trailers.items()))  # with those that links have added
        return answer
    except grpc.aio.AbortError:
        raise
    except CallerGone:
        raise asyncio.CancelledError from None
    except RequestError as error:
        await _abort(call, error)
    except Exception:  # a bug of ours: the caller gets a request id, the log gets the traceback
        log.exception("%s failed", call.method, extra={"request_id": call.request_id})
        await _abort(call, internal())


async def _abort(call: Call, error: RequestError) -> None:
    call.refused("call", error.reason)
    status = to_status(error, call.request_id)
    # For gRPC's own retries (proposal A6): how many milliseconds to wait, or a negative number for no retry.
    pushback = -1 if error.retry_seconds is None else int(error.retry_seconds * 1e3)
    trailing: tuple[tuple[str, str | bytes], ...] = (
        ("grpc-status-details-bin", status.SerializeToString()),
        *call.trailers.items(),
        ("grpc-retry-pushback-ms", str(pushback)),
    )
    await call.context.abort(code_of(error), error.message, trailing)
