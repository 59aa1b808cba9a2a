"""A fake of a server's admin port, with numbers that tests choose."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def live_numbers() -> dict[str, Any]:
    """Return the numbers of a busy server with a model of a long name."""
    process = {"kind": "frontend", "model": "", "gpu_bytes": None}
    return {
        "time": 1764400000.0,
        "seconds": 1.0,
        "server": {"version": "0.1.0", "uptime_seconds": 3712.0, "cores": 2, "address": "127.0.0.1:50051"},
        "calls": {
            "per_second": 90.1,
            "under_way": 3,
            "failed_per_second": 0.5,
            "by_status": {"OK": 90.1},
            "by_method": {"TaskService/FillMasks": 2.1, "EncodingService/EncodeTexts": 88.0, "Health/Check": 0.0},
            "latency_seconds": {"p50": 0.010, "p90": 0.020, "p99": None},
        },
        "texts_per_second": 90.0,
        "tokens_per_second": 1900.0,
        "refused_per_second": {"OVERLOADED": 0.5, "QUOTA_EXCEEDED": 0.25},
        "streams": 1,
        "processes": [
            {**process, "name": "frontend-0", "pid": 1, "state": "ready", "uptime_seconds": 10.0, "restarts": 0}
            | {"resident_bytes": 123 << 20, "cpu_cores": 0.4},
            {**process, "name": "worker-0-0", "pid": 2, "state": "gone", "uptime_seconds": 100_010.0, "restarts": 12}
            | {"resident_bytes": 3 << 29, "cpu_cores": 1.04},
        ],
        "models": [
            {
                "name": "sentence-transformers/all-MiniLM-L6-v2",
                "state": "serving",
                "workers": 2,
                "workers_alive": 1,
                "queue_tokens": {"interactive": 100, "bulk": 20_000},
                "batch_fill": 0.61,
                "texts_per_second": 1203.2,
                "tokens_per_second": 150_000.2,
                "compute_seconds": {"p50": 0.0123, "p90": 0.02, "p99": 0.1234},
            }
        ],
    }


class FakeAdminPort(ThreadingHTTPServer):
    """Sends the numbers, as one object or as events."""

    daemon_threads = True

    def __init__(self, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.numbers: Any = live_numbers()
        self.status, self.key = 200, ""
        self.ended = threading.Event()
        super().__init__(("127.0.0.1", port), _Handler)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.address = f"127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing, as callers that leave are no errors."""


class _Handler(BaseHTTPRequestHandler):
    server: FakeAdminPort

    def do_GET(self) -> None:
        fake = self.server
        status = fake.status
        if fake.key and self.headers["authorization"] != f"Bearer {fake.key}":
            status = 401
        if status != 200:
            self._send(status, {"code": 16, "message": "this needs a key"} if status == 401 else fake.numbers)
        elif self.path == "/api/live?once":
            self._send(200, fake.numbers)
        else:
            self.send_response(200)
            self.end_headers()
            while not fake.ended.is_set():
                self.wfile.write(f"data: {json.dumps(fake.numbers)}\n\n".encode())
                fake.ended.wait(0.1)

    def _send(self, status: int, body: Any) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def fake_admin_port(tls: ssl.SSLContext | None = None, port: int = 0) -> Iterator[FakeAdminPort]:
    """Serve one until the body ends."""
    with FakeAdminPort(tls, port) as fake:
        thread = threading.Thread(target=fake.serve_forever, args=[0.05])
        thread.start()
        try:
            yield fake
        finally:
            fake.ended.set()
            fake.shutdown()
            thread.join()
