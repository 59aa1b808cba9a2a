"""The admin port of a real server: what it shows, who may look, and that nobody misses it when it dies."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import ssl
import threading
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bertstream.cli import main
from bertstream.client import Client, InvalidArgument, NotFound
from tests.support.admin import AdminPort
from tests.support.certificates import Authority
from tests.support.collector import Collector, collecting
from tests.support.open_stream import OpenStream
from tests.support.server import Server, eventually, running

ENCODE = "bertstream.v1.EncodingService/EncodeTexts"
OPTIONS = ("--admin-port", "0", "--workers", "1", "--threads", "1")


@pytest.fixture(scope="module")
def server(checkpoint: Callable[[str], Path], compile_cache: Path) -> Iterator[Server]:
    with running([f"tiny={checkpoint('bert')}"], *OPTIONS, "--frontends", "2", cache=compile_cache) as started:
        yield started


@pytest.fixture(scope="module")
def admin(server: Server) -> AdminPort:
    return AdminPort.of(server)


def ended(admin: AdminPort, method: str, status: str = "OK") -> float:
    return admin.settled().sum("grpc_server_call_duration_seconds_count", grpc_method=method, grpc_status=status)


def test_it_says_that_it_is_alive_and_ready(admin: AdminPort) -> None:
    assert admin.json("/healthz")["alive"] is True
    assert admin.json("/readyz") == {"ready": True, "draining": False, "models": {"tiny": "serving"}}


def test_every_call_is_counted_once(server: Server, admin: AdminPort) -> None:
    before = admin.settled()
    with Client(server.address, channels=4) as client:
        for _ in range(10):
            client.encode("hello")
        for _ in range(3):
            with pytest.raises(InvalidArgument):
                client.encode("hello", pooling="cls", layers=[99])
        with pytest.raises(NotFound):
            client.encode("hello", model="none")
    with grpc.insecure_channel(server.address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest())
        nothing: Any = channel.unary_unary("/bertstream.v1.NoService/Nothing")
        with pytest.raises(grpc.RpcError):
            nothing(b"")
    count = "grpc_server_call_duration_seconds_count"
    others = {"grpc_method": "other", "grpc_status": "UNIMPLEMENTED"}
    now = admin.settled()

    def counted(name: str, **labels: str) -> float:
        return now.sum(name, **labels) - before.sum(name, **labels)

    assert counted(count, grpc_method=ENCODE, grpc_status="OK") == 10
    assert counted(count, grpc_method=ENCODE, grpc_status="INVALID_ARGUMENT") == 3
    assert counted(count, grpc_method=ENCODE, grpc_status="NOT_FOUND") == 1
    assert counted(count, **others) == 1
    assert counted(count, grpc_method="grpc.health.v1.Health/Check", grpc_status="OK") == 1
    assert counted("grpc_server_call_started_total", grpc_method=ENCODE) == 14
    assert counted("grpc_server_call_started_total", grpc_method="other") == 1
    sent = counted("grpc_server_call_sent_total_compressed_message_size_bytes_sum", grpc_method=ENCODE)
    received = counted("grpc_server_call_rcvd_total_compressed_message_size_bytes_sum", grpc_method=ENCODE)
    assert sent > 10 * 4 * 36
    assert received > 14 * len("hello")


def test_live_numbers_come_once_or_as_they_change(server: Server, admin: AdminPort) -> None:
    once = admin.json("/api/live?once")
    assert once["server"]["address"] == server.address
    assert [each["name"] for each in once["models"]] == ["tiny"]
    kinds = ["admin", "frontend", "frontend", "supervisor", "worker"]
    eventually(lambda: [each["kind"] for each in _ready_processes(admin)] == kinds, "a second with all of them")
    assert all(each["resident_bytes"] > 1 << 20 for each in _ready_processes(admin))
    with urllib.request.urlopen(f"{admin.url}/api/live", timeout=30) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = [stream.readline() for _ in range(4)]
    assert [line[:6] for line in lines] == [b"data: ", b"\n", b"data: ", b"\n"]


def _ready_processes(admin: AdminPort) -> list[dict[str, Any]]:
    found = [each for each in admin.json("/api/live?once")["processes"] if each["state"] == "ready"]
    return sorted(found, key=lambda each: str(each["kind"]))


def test_when_it_is_killed_under_load_no_call_fails_and_it_comes_back(server: Server, admin: AdminPort) -> None:
    stop, failures, answered = threading.Event(), list[Exception](), [0]

    def call() -> None:
        with Client(server.address, channels=1, retries=0) as client:
            while not stop.wait(0.01):
                try:
                    client.encode("hello")
                    answered[0] += 1
                except Exception as error:
                    failures.append(error)

    before, thread = ended(admin, ENCODE), threading.Thread(target=call)
    thread.start()
    try:
        (process,) = server.children("bertstream.server.admin")
        os.kill(process.pid, signal.SIGKILL)
        eventually(lambda: _answers(admin), "the admin port to come back")
        assert [each.pid for each in server.children("bertstream.server.admin")] != [process.pid]
    finally:
        stop.set()
        thread.join()
    assert failures == []
    assert answered[0] > 0
    assert ended(admin, ENCODE) == before + answered[0]
    assert admin.metrics().sum("bertstream_process_restarts_total", kind="admin", cause="signal SIGKILL") == 1


def _answers(admin: AdminPort) -> bool:
    with contextlib.suppress(OSError, urllib.error.URLError):
        return admin.get("/healthz")[0] == 200
    return False


def test_what_a_killed_frontend_had_counted_stays(server: Server, admin: AdminPort) -> None:
    with Client(server.address, channels=1, retries=0) as client:
        for _ in range(5):
            client.encode("hello")
    before = ended(admin, ENCODE)
    pids = {each.pid for each in server.children("bertstream.server.frontend")}
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert ended(admin, ENCODE) == before
    eventually(lambda: admin.metrics().sum("bertstream_processes", kind="frontend") == 2, "new frontends")
    assert ended(admin, ENCODE) == before
    with Client(server.address, channels=1) as client:
        client.encode("hello")
    assert ended(admin, ENCODE) == before + 1
    restarts = admin.metrics().sum("bertstream_process_restarts_total", kind="frontend", cause="signal SIGKILL")
    assert restarts == 2


def _ready(admin: AdminPort) -> bool:
    return admin.get("/readyz")[0] == 200


def test_frontends_take_calls_on_sockets_that_are_this_users_alone(server: Server) -> None:
    folder = server.socket_folder()
    sockets = sorted(folder.glob("frontend-*.socket"))
    assert [each.name for each in sockets] == ["frontend-0.socket", "frontend-1.socket"]
    assert folder.stat().st_mode & 0o077 == 0
    for each in sockets:
        with grpc.insecure_channel(f"unix:{each}") as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            found = health.Check(health_pb2.HealthCheckRequest(), timeout=60)
        assert found.status == health_pb2.HealthCheckResponse.SERVING


def test_while_it_drains_it_is_alive_but_not_ready(checkpoint: Callable[[str], Path], compile_cache: Path) -> None:
    options = ("--drain-seconds", "240", *OPTIONS)
    with running([f"tiny={checkpoint('bert')}"], *options, cache=compile_cache) as server:
        admin, stream = AdminPort.of(server), OpenStream(server.address)
        assert admin.metrics().sum("bertstream_calls_active") == 1
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: not _ready(admin), "the drain to be seen")
        assert admin.get("/healthz")[0] == 200
        assert '"draining":true' in admin.get("/readyz")[1]
        stream.end()
        assert server.process.wait(60) == 0


def test_with_keys_and_tls_it_wants_both(
    checkpoint: Callable[[str], Path], compile_cache: Path, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    files, keys = authority.issue("server"), tmp_path / "keys.toml"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(["keys", "add", "ops", "--role", "admin", "--file", str(keys)]) == 0
    secured = ("--tls-certificate", files.certificate, "--tls-key", files.key, "--keys-file", str(keys))
    trusted = ssl.create_default_context(cafile=str(authority.path))
    with running([f"tiny={checkpoint('bert')}"], *OPTIONS, *secured, cache=compile_cache) as server:
        admin = AdminPort.of(server, key=printed.getvalue().strip(), tls=trusted)
        stranger = AdminPort.of(server, tls=trusted)
        assert admin.url.startswith("https://")
        assert admin.get("/metrics")[0] == 200
        assert [stranger.get(path)[0] for path in ("/metrics", "/api/live?once", "/healthz", "/readyz")] == [
            *(401, 401, 200, 200)
        ]
        renewed = Authority(tmp_path, "renewed")
        renewed.issue("server")
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            admin.get("/metrics")
        again = ssl.create_default_context(cafile=str(renewed.path))
        assert AdminPort.of(server, key=admin.key, tls=again).get("/metrics")[0] == 200


def test_metrics_are_pushed_without_an_admin_port(checkpoint: Callable[[str], Path], compile_cache: Path) -> None:
    options = ("--workers", "1", "--threads", "1", "--metric-seconds", "1", "--log-level", "debug")
    with (
        collecting() as collector,
        running(
            [f"tiny={checkpoint('bert')}"], *options, "--metric-endpoint", collector.endpoint, cache=compile_cache
        ) as server,
    ):
        assert "admin at" not in server.ready_line
        with Client(server.address) as client:
            client.encode("hello")
        eventually(lambda: _pushed(collector, "bertstream.batch.texts") == 1, "the text to be pushed")
        assert server.stop() == 0
    assert server.logged("stopped")


def _pushed(collector: Collector, name: str) -> float:
    metrics = [
        metric
        for push in collector.pushes[-1:]
        for resource in push.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    ]
    return sum(point.as_double for metric in metrics if metric.name == name for point in metric.sum.data_points)
