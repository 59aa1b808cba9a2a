"""Messages of the health service, which the client writes and reads itself."""

from __future__ import annotations

import pytest

from bertstream.client import Health, Internal
from bertstream.client._calls.health import check_request, check_response


def test_health_messages() -> None:
    assert check_request("") == b""
    assert check_request("x" * 300) == b"\x0a\xac\x02" + b"x" * 300
    assert check_response(b"\x08\x01") is Health.SERVING
    assert check_response(b"") is Health.UNKNOWN
    with pytest.raises(Internal):
        check_response(b"\x08\x09")


def test_health_messages_are_those_of_the_generated_code() -> None:
    health_pb2 = pytest.importorskip("grpc_health.v1.health_pb2")
    for service in ("", "bertstream.v1.EncodingService", "é" * 200):
        assert check_request(service) == health_pb2.HealthCheckRequest(service=service).SerializeToString()
    for status in Health:
        assert check_response(health_pb2.HealthCheckResponse(status=status.value).SerializeToString()) is status
