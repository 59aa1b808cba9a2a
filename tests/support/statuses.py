"""Read what a caller sees of a call that failed."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2


class Refusal:
    """Hold the status, its details, and the trailers."""

    def __init__(self, error: Any) -> None:
        self.code: grpc.StatusCode = error.code()
        self.message: str = error.details()
        self.trailing: dict[str, Any] = dict(error.trailing_metadata() or ())
        self.status = status_pb2.Status.FromString(self.trailing.get("grpc-status-details-bin", b""))
        self.info, self.request = error_details_pb2.ErrorInfo(), error_details_pb2.RequestInfo()
        for each in self.status.details:
            each.Unpack(self.info)
            each.Unpack(self.request)


async def refusal(call: Any) -> Refusal:
    """Await a call, or a read of one, that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return Refusal(raised.value)
