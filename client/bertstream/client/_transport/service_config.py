"""What gRPC itself does for a channel: try calls again, and choose one of several servers behind an address."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from bertstream.client._calls.health import OPEN_SERVICE
from bertstream.v1 import encoding_pb2, generation_pb2, models_pb2, tasks_pb2, tokenization_pb2

_FILES = tuple(file.DESCRIPTOR for file in (encoding_pb2, generation_pb2, models_pb2, tasks_pb2, tokenization_pb2))
CHANGING_RPCS = ("LoadModel", "UnloadModel")
MOST_RETRIES = 4  # gRPC itself never tries more than five times


def service_config(retries: int, *, spread: bool = False, seconds: float = 10.0) -> dict[str, Any]:
    """Return the service config of a channel: retries and, with `spread`, calls shared among several servers.

    seconds: for which a server is watched before it is judged.
    """
    return {**(_retrying(retries) if retries else {}), **(_spreading(seconds) if spread else {})}


def _retrying(retries: int) -> dict[str, Any]:
    """Return the config by which gRPC retries calls with one request (gRFC A6).

    gRPC waits with jitter, or as the server's grpc-retry-pushback-ms asks; once an answer has begun to arrive
    (StreamLayers, StreamGeneration), it retries no more. Streams of requests are left out: the SDK opens those again
    itself, and sends only what was not answered. So are the rpcs that change what is served, which may have taken
    effect even if no answer came.
    """
    policy = {
        "maxAttempts": retries + 1,
        "initialBackoff": "0.1s",
        "maxBackoff": "2s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
    }
    return {"methodConfig": [{"name": list(_retried_methods()), "retryPolicy": policy}]}


def _spreading(seconds: float) -> dict[str, Any]:
    """Return the config by which gRPC shares calls among the servers of one address, and watches their health.

    Each gets calls by the load that it reports (gRFC A58); until it has reported any, or if it never does, as many as
    the others. One whose calls succeed far less often than those of at least four others gets none for a while (A50):
    failures that callers cause are spread over all, and so is overload. A gRPC without that takes servers in turn.
    """
    by_load = {"weighted_round_robin": {"blackoutPeriod": f"{seconds}s"}}
    without_outliers = {"interval": f"{seconds}s", "successRateEjection": {}, "childPolicy": [by_load]}
    return {
        "loadBalancingConfig": [{"outlier_detection_experimental": without_outliers}, {"round_robin": {}}],
        "healthCheckConfig": {"serviceName": OPEN_SERVICE},
    }


def rpc_names() -> Iterator[str]:
    """Yield the names of all rpcs of bertstream.v1."""
    yield from (method.name for method in methods())


def methods() -> Iterable[Any]:
    """Return the descriptors of all rpcs of bertstream.v1."""
    return (method for file in _FILES for service in file.services_by_name.values() for method in service.methods)


def _retried_methods() -> Iterator[dict[str, str]]:
    for method in methods():
        if not method.client_streaming and method.name not in CHANGING_RPCS:
            yield {"service": method.containing_service.full_name, "method": method.name}
    yield {"service": "grpc.health.v1.Health", "method": "Check"}
