"""The one place where errors become statuses."""

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
    """End a call that fails by a status with details and its request id, and never by a traceback."""
    # Stands in the trailers whatever the call ends with, as the services that are not ours end calls by themselves.
    call.context.set_trailing_metadata((("x-request-id", call.request_id),))
    try:
        return await proceed()
    except grpc.aio.AbortError:
        raise
    except CallerGone:
        raise asyncio.CancelledError from None
    except RequestError as error:
        await _abort(call, error)
    except Exception:  # a bug of ours: the caller gets a request id, the log gets the rest
        log.exception("%s failed", call.method, extra={"request_id": call.request_id})
        await _abort(call, internal())


async def _abort(call: Call, error: RequestError) -> None:
    status = to_status(error, call.request_id)
    # Read by gRPC's own retries (proposal A6): how many milliseconds to wait, or a negative number for not at all.
    pushback = -1 if error.retry_seconds is None else int(error.retry_seconds * 1e3)
    trailing: tuple[tuple[str, str | bytes], ...] = (
        ("grpc-status-details-bin", status.SerializeToString()),
        ("x-request-id", call.request_id),
        ("grpc-retry-pushback-ms", str(pushback)),
    )
    await call.context.abort(code_of(error), error.message, trailing)
