"""Channels: their settings, options and stubs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bertstream.client._calls.health import CHECK_METHOD, HEALTH_RPC, OPEN_SERVICE
from bertstream.client._chance import CHANCE
from bertstream.client._errors import RpcError, error_from_call
from bertstream.client._fields import optional_real, optional_whole, whole
from bertstream.client._transport.addresses import are_several, is_local, may_be_several, proxy_of
from bertstream.client._transport.balance import Balance, Place
from bertstream.client._transport.deadline import seconds_of
from bertstream.client._transport.handshakes import explained
from bertstream.client._transport.security import Metadata, Security
from bertstream.client._transport.tracing import package_version, traced
from bertstream.client._transport.tries import Tries
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
CALLS_TO_A_NAME = 4  # of a bulk stream, where gRPC may find several servers behind an address
MOST_RETRIES = 4  # gRPC itself never tries more than five times
# gRPC's own balance between the servers that it finds behind one address, and the service whose health it watches.
SPREAD = {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": OPEN_SERVICE}}


@dataclass(frozen=True, slots=True)
class Connection:
    """The settings of a client's channels."""

    servers: tuple[str, ...]  # an address each
    timeout: float | None
    channels: int
    retries: int
    security: Security
    given_metadata: Metadata = field(repr=False)
    max_message_bytes: int
    reconnect_seconds: float
    stream_calls: int | None = None  # that a bulk stream is spread over
    given_channel: Any = None  # gRPC's own, in place of those that the client would make and close

    def __post_init__(self) -> None:
        if self.given_channel is not None and len(self.servers) > 1:
            raise ValueError("give a channel or several addresses, not both")
        whole(self.channels, "channels", 1)
        optional_whole(self.stream_calls, "stream_calls", 1)
        whole(self.retries, "retries", 0, MOST_RETRIES)
        whole(self.max_message_bytes, "max_message_bytes")
        optional_real(self.reconnect_seconds, "reconnect_seconds")
        if seconds_of(self.timeout) == 0:
            raise ValueError("timeout must be above 0, or None for none")
        if self.security.metadata and any(name.lower() == "authorization" for name, _ in self.given_metadata):
            raise ValueError("give the key as api_key or in metadata, not both")

    @property
    def _each(self) -> int:
        """How many channels there are to each server."""
        return self.channels if self.given_channel is None else 1

    @property
    def metadata(self) -> Metadata:
        """The metadata that is sent with every call."""
        return (*self.given_metadata, *self.security.metadata)

    def places(self) -> Iterator[Place]:
        """Yield the place of each channel: some of each server."""
        yield from (Place(server, index) for server in range(len(self.servers)) for index in range(self._each))

    def options(self, place: Place) -> list[tuple[str, Any]]:
        """Return the arguments of a channel, which differ since channels with equal ones share a connection."""
        address = self.servers[place.server]
        return [
            ("bertstream.channel", place.channel),
            ("grpc.primary_user_agent", f"bertstream-python/{package_version()}"),
            ("grpc.service_config", json.dumps(self._service_config(address))),
            ("grpc.service_config_disable_resolution", 1),
            ("grpc.max_receive_message_length", self.max_message_bytes),
            ("grpc.max_send_message_length", self.max_message_bytes),
            ("grpc.keepalive_time_ms", 60_000),  # so that a stream notices a peer that vanished without closing it
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 5_000),
            # How often a name is looked up at most; gRPC does so when a connection ends.
            ("grpc.dns_min_time_between_resolutions_ms", 5_000),
            ("grpc.enable_http_proxy", int(not is_local(address))),
            *([("grpc.ssl_target_name_override", name)] if (name := self.security.server_name) else []),
            # A host that does not answer at all must not keep a call from the other servers for gRPC's 20 s.
            *([("grpc.min_reconnect_backoff_ms", 5_000)] if len(self.servers) > 1 else []),
        ]

    def error_of(self, error: Any, server: int) -> RpcError:
        """Return the exception for the grpc.RpcError that a call to a server has raised."""
        address = self.servers[server]
        return explained(error_from_call(error, proxy_of(address)), address, self.security)

    @property
    def lanes(self) -> int:
        """How many calls a bulk stream may have: one to each server, and a few where gRPC knows how many there are."""
        if self.stream_calls is not None:
            return self.stream_calls
        several = len(self.servers) == 1 and self.given_channel is None and may_be_several(self.servers[0])
        return CALLS_TO_A_NAME if several else len(self.servers)

    def server_of(self, lane: int) -> int:
        """Return the server that a lane of a stream leads to."""
        return lane % len(self.servers)

    def best_lane(self, balance: Balance, lanes: Sequence[int], at_any_cost: bool) -> int | None:
        """Return the lane of these, in order, whose server should take the next call.

        None if none of them takes calls; with at_any_cost, the best one nevertheless.
        """
        servers = {self.server_of(lane): lane for lane in reversed(lanes)}
        best = balance.best(servers, at_any_cost)
        return None if best is None else servers[best]

    def balance(self) -> Balance:
        """Return a new balance between the channels, which begins with any server, as other clients do."""
        return Balance(self.servers, self._each, first=CHANCE.randrange(len(self.servers)))

    def tries(self, rpc: str) -> Tries:
        """Return the tries of a call. Raises ValueError where it must not go to just any of several servers."""
        if rpc in CHANGING_RPCS and (len(self.servers) > 1 or are_several(self.servers[0])):
            raise ValueError(f"{rpc} changes one server, and this client has several: make a client for one of them")
        return Tries(len(self.servers), self.retries)

    def _service_config(self, address: str) -> dict[str, Any]:
        # Of several servers another one is tried by us, as gRPC itself would only ask the same one again.
        retries = self.retries if len(self.servers) == 1 else 0
        return {**service_config(retries), **(SPREAD if may_be_several(address) else {})}


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
        "maxAttempts": int(retries) + 1,
        "initialBackoff": "0.1s",
        "maxBackoff": "2s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
    }
    return {"methodConfig": [{"name": list(_retried_methods()), "retryPolicy": policy}]}


def rpc_names() -> Iterator[str]:
    """Yield the names of all rpcs of bertstream.v1."""
    yield from (method.name for method in _methods())


def stubs(channel: Any, address: str) -> dict[str, Any]:
    """Return all rpcs of a channel to that address, synchronous or asynchronous, by name; all but health with spans."""
    rpcs = {name: rpc for stub in STUBS for name, rpc in vars(stub(channel)).items()}
    full_names = {method.name: f"{method.containing_service.full_name}/{method.name}" for method in _methods()}
    check = channel.unary_unary(CHECK_METHOD, request_serializer=bytes, response_deserializer=bytes)
    return {**{name: traced(rpc, full_names[name], address) for name, rpc in rpcs.items()}, HEALTH_RPC: check}


def _methods() -> Iterable[Any]:
    return (method for file in FILES for service in file.services_by_name.values() for method in service.methods)


def _retried_methods() -> Iterator[dict[str, str]]:
    for method in _methods():
        if not method.client_streaming and method.name not in CHANGING_RPCS:
            yield {"service": method.containing_service.full_name, "method": method.name}
    yield {"service": "grpc.health.v1.Health", "method": "Check"}
