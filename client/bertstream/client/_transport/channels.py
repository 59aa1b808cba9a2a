"""Channels: their options, their stubs, and the choice of the channel for the next call."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from bertstream.client._calls.health import CHECK_METHOD, HEALTH_RPC
from bertstream.client._errors import RpcError, error_from_call
from bertstream.client._transport.addresses import check_address, is_local, proxy_of
from bertstream.client._transport.handshakes import explained
from bertstream.client._transport.security import Metadata, Security
from bertstream.v1 import encoding_pb2, generation_pb2, models_pb2, tasks_pb2, tokenization_pb2
from bertstream.v1.encoding_pb2_grpc import EncodingServiceStub
from bertstream.v1.generation_pb2_grpc import GenerationServiceStub
from bertstream.v1.models_pb2_grpc import ModelServiceStub
from bertstream.v1.tasks_pb2_grpc import TaskServiceStub
from bertstream.v1.tokenization_pb2_grpc import TokenizationServiceStub

STUBS: tuple[Any, ...] = (
    EncodingServiceStub,
    GenerationServiceStub,
    ModelServiceStub,
    TaskServiceStub,
    TokenizationServiceStub,
)
FILES = tuple(file.DESCRIPTOR for file in (encoding_pb2, generation_pb2, models_pb2, tasks_pb2, tokenization_pb2))
CHANGING_RPCS = ("LoadModel", "UnloadModel")
MOST_RETRIES = 4  # gRPC itself never tries more than five times


@dataclass(frozen=True, slots=True)
class Connection:
    """The settings of a client's channels."""

    address: str
    timeout: float | None
    channels: int
    retries: int
    security: Security
    given_metadata: Metadata = field(repr=False)
    max_message_bytes: int
    reconnect_seconds: float

    def __post_init__(self) -> None:
        check_address(self.address)
        if self.channels < 1:
            raise ValueError("channels must be at least 1")
        if not 0 <= self.retries <= MOST_RETRIES:
            raise ValueError(f"retries must be from 0 to {MOST_RETRIES}")
        if self.timeout is not None and self.timeout <= 0:
            raise ValueError("timeout must be above 0, or None for none")
        if self.security.metadata and any(name.lower() == "authorization" for name, _ in self.given_metadata):
            raise ValueError("give the key as api_key or in metadata, not both")

    @property
    def metadata(self) -> Metadata:
        """The metadata that is sent with every call."""
        return (*self.given_metadata, *self.security.metadata)

    def options(self, index: int) -> list[tuple[str, Any]]:
        """Return the arguments of channel `index`, which differ since channels with equal ones share a connection."""
        return [
            ("bertstream.channel", index),
            ("grpc.primary_user_agent", f"bertstream-python/{package_version()}"),
            ("grpc.service_config", json.dumps(service_config(self.retries))),
            ("grpc.service_config_disable_resolution", 1),
            ("grpc.max_receive_message_length", self.max_message_bytes),
            ("grpc.max_send_message_length", self.max_message_bytes),
            ("grpc.keepalive_time_ms", 60_000),  # so that a stream notices a peer that vanished without closing it
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 5_000),
            ("grpc.enable_http_proxy", int(not is_local(self.address))),
            *([("grpc.ssl_target_name_override", name)] if (name := self.security.server_name) else []),
        ]

    def error_of(self, error: Any) -> RpcError:
        """Return the exception for the grpc.RpcError that a call has raised."""
        return explained(error_from_call(error, proxy_of(self.address)), self.address, self.security)


def service_config(retries: int) -> dict[str, Any]:
    """Return the service config by which gRPC retries calls with one request (gRFC A6).

    gRPC waits with jitter, or as the server's grpc-retry-pushback-ms asks; once an answer has begun to arrive
    (StreamLayers, StreamGeneration), it retries no more. Streams of requests are left out: the SDK opens those again
    itself, and sends only what was not answered. So are the rpcs that change what is served, which may have taken
    effect even if no answer came.
    """
    if not retries:
        return {}
    policy = {
        "maxAttempts": retries + 1,
        "initialBackoff": "0.1s",
        "maxBackoff": "2s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
    }
    return {"methodConfig": [{"name": list(_retried_methods()), "retryPolicy": policy}]}


def rpc_names() -> Iterator[str]:
    """Yield the names of all rpcs of bertstream.v1."""
    yield from (method.name for method in _methods())


def stubs(channel: Any) -> dict[str, Any]:
    """Return all rpcs of a channel, synchronous or asynchronous, by name."""
    rpcs = {name: rpc for stub in STUBS for name, rpc in vars(stub(channel)).items()}
    check = channel.unary_unary(CHECK_METHOD, request_serializer=bytes, response_deserializer=bytes)
    return {**rpcs, HEALTH_RPC: check}


def package_version() -> str:
    """Return the installed version of this package."""
    try:
        return version("bertstream")
    except PackageNotFoundError:  # run from a source tree
        return "0"


class LeastLoaded:
    """Chooses the channel with the fewest calls under way, the first one among equals."""

    def __init__(self, count: int) -> None:
        self._loads, self._lock = [0] * count, threading.Lock()

    def acquire(self) -> int:
        """Return the channel for a new call."""
        with self._lock:
            index = min(range(len(self._loads)), key=self._loads.__getitem__)
            self._loads[index] += 1
            return index

    def release(self, index: int) -> None:
        """Note that a call of that channel has ended."""
        with self._lock:
            self._loads[index] -= 1


def _methods() -> Iterable[Any]:
    return (method for file in FILES for service in file.services_by_name.values() for method in service.methods)


def _retried_methods() -> Iterator[dict[str, str]]:
    for method in _methods():
        if not method.client_streaming and method.name not in CHANGING_RPCS:
            yield {"service": method.containing_service.full_name, "method": method.name}
    yield {"service": "grpc.health.v1.Health", "method": "Check"}
