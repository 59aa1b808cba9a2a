"""grpc.health.v1.Health/Check with its two one-field messages written by hand.

The generated code for them is in the package grpcio-health-checking, which pins its own version of protobuf. To need
nothing but grpcio, protobuf and NumPy, the client writes `string service = 1` and reads `enum status = 1` itself.
"""

from __future__ import annotations

from bertstream.client._errors import Cancelled, DeadlineExceeded, RpcError, Unavailable, unexpected_response
from bertstream.client._types import Health

HEALTH_RPC = "Check"
CHECK_METHOD = "/grpc.health.v1.Health/Check"
OPEN_SERVICE = "bertstream.v1.ModelService"
"""Serves as long as its server takes calls: unlike the others, it does not depend on what lives of a model."""


def check_request(service: str) -> bytes:
    """Return a serialised `HealthCheckRequest { string service = 1; }`."""
    name = service.encode()
    return b"\x0a" + _varint(len(name)) + name if name else b""


def check_response(data: bytes) -> Health:
    """Read a `HealthCheckResponse { ServingStatus status = 1; }`: it is empty, or one tag and one small number."""
    if not data:
        return Health.UNKNOWN
    if len(data) == 2 and data[0] == 0x08 and data[1] <= Health.SERVICE_UNKNOWN.value:
        return Health(data[1])
    raise unexpected_response("a health status that is none")


def is_open(answer: bytes | RpcError) -> bool:
    """Return whether a server takes calls, by its answer to a check of OPEN_SERVICE, which it may not know."""
    if isinstance(answer, RpcError):
        return not isinstance(answer, Unavailable | DeadlineExceeded | Cancelled)
    return check_response(answer) is not Health.NOT_SERVING


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
