"""What gRPC does for a channel: which calls it retries, and whom it asks of several servers."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from bertstream.client._calls.health import OPEN_SERVICE
from bertstream.client._transport.service_config import rpc_names, service_config
from bertstream.server.protocols.orca import TRAILER, OrcaLoadReport

METHOD = "/tests.Service/Call"
_channels = itertools.count()


def test_retries_are_for_calls_with_one_request_that_change_nothing() -> None:
    (method,) = service_config(4)["methodConfig"]
    names = {name["method"] for name in method["name"]}
    streams = {"StreamEncodings", "StreamGeneratedTexts", "StreamPredictions", "StreamTokenizations"}
    assert names == {*rpc_names(), "Check"} - streams - {"LoadModel", "UnloadModel"}
    assert method["retryPolicy"]["maxAttempts"] == 5
    assert service_config(0) == {}


def test_rpc_names_are_unique() -> None:
    names = list(rpc_names())
    assert len(names) == len(set(names))


class Loaded:
    """A server that reports a load, or fails all calls."""

    def __init__(self, load: float, *, fails: bool = False) -> None:
        self._load = load
        self._fails = fails

    def call(self, _request: bytes, context: grpc.ServicerContext) -> bytes:
        report = OrcaLoadReport(application_utilization=self._load, rps_fractional=100.0)
        context.set_trailing_metadata(((TRAILER, report.SerializeToString()),))
        if self._fails:
            context.abort(grpc.StatusCode.INTERNAL, "broken")
        return str(self._load).encode()

    @contextmanager
    def running(self) -> Iterator[int]:
        """Run it, and yield its port."""
        with ThreadPoolExecutor(4) as pool:
            server = grpc.server(pool)
            method: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(self.call)
            service, name = METHOD[1:].split("/")
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: method}),))
            servicer = health.HealthServicer()
            servicer.set(OPEN_SERVICE, health_pb2.HealthCheckResponse.SERVING)
            health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
            port = server.add_insecure_port("127.0.0.1:0")
            server.start()
            try:
                yield port
            finally:
                server.stop(None).wait()


class Calls:
    """Calls to several servers over one channel."""

    def __init__(self, ports: Sequence[int], config: dict[str, Any]) -> None:
        options = [
            ("tests.channel", next(_channels)),
            ("grpc.service_config", json.dumps(config)),
            ("grpc.service_config_disable_resolution", 1),
        ]
        self.channel = grpc.insecure_channel("ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports), options=options)
        self._call = self.channel.unary_unary(METHOD, bytes, bytes)

    def outcomes(self, count: int) -> Counter[str]:
        """Count answers and failures of so many calls."""
        return Counter(self._outcome() for _ in range(count))

    def _outcome(self) -> str:
        try:
            return bytes(self._call(b"", timeout=20)).decode()
        except grpc.RpcError as error:
            return str(error.code().name)


@contextmanager
def calling(servers: Sequence[Loaded], config: dict[str, Any]) -> Iterator[Calls]:
    with ExitStack() as stack:
        calls = Calls([stack.enter_context(server.running()) for server in servers], config)
        stack.callback(calls.channel.close)
        yield calls


def test_of_several_servers_the_less_loaded_one_gets_more_calls() -> None:
    with calling([Loaded(0.1), Loaded(0.9)], service_config(0, spread=True, seconds=0.1)) as calls:
        assert any(found["0.1"] > 3 * found["0.9"] > 0 for found in (calls.outcomes(200) for _ in range(50)))


def test_a_server_that_fails_far_more_often_than_the_others_gets_no_calls() -> None:
    config = service_config(0, spread=True, seconds=0.5)
    config["loadBalancingConfig"][0]["outlier_detection_experimental"]["successRateEjection"] = {"requestVolume": 10}
    with calling([*(Loaded(0.5) for _ in range(4)), Loaded(0.4, fails=True)], config) as calls:
        first = calls.outcomes(100)
        assert first["INTERNAL"] > 0
        assert any(calls.outcomes(100) == {"0.5": 100} for _ in range(50))
