from __future__ import annotations

from typing import Any

import pytest

from bertstream.server.protocols.call import GrpcCall

METHOD = "test.v1.Ours/Unary"


class FakeContext:
    """What a call reads of gRPC's context, and the trailers that it sets."""

    def __init__(self, **metadata: str) -> None:
        self.metadata = metadata
        self.trailers: Any = ()

    def invocation_metadata(self) -> Any:
        return tuple(self.metadata.items())

    def time_remaining(self) -> float | None:
        return None

    def set_trailing_metadata(self, trailers: Any) -> None:
        self.trailers = trailers

    def auth_context(self) -> dict[str, list[bytes]]:
        return {
            "x509_common_name": [b"ingest"],
            "x509_subject_alternative_name": [b"a.example", b"\xff"],
            "more": [b""],
        }


def grpc_call(**metadata: str) -> tuple[GrpcCall, FakeContext]:
    context: Any = FakeContext(**metadata)
    return GrpcCall(METHOD, context, context.time_remaining()), context


@pytest.mark.parametrize("attempts", ["", "2"])
def test_a_call_tells_of_itself_in_the_terms_of_rpc(attempts: str) -> None:
    call, _ = grpc_call(**({"grpc-previous-rpc-attempts": attempts} if attempts else {}))
    known = {"rpc.system.name": "grpc", "rpc.method": METHOD, "rpc.response.status_code": "OK"}
    assert call.attributes("OK") == known | ({"previous_attempts": attempts} if attempts else {})


async def test_trailers_are_set_at_once_and_again_at_the_end() -> None:
    call, context = grpc_call(**{"x-request-id": "mine"})
    assert context.trailers == [("x-request-id", "mine")]
    call.trailers["load"] = b"report"
    assert await call.complete("the answer") == "the answer"
    assert context.trailers == [("x-request-id", "mine"), ("load", b"report")]


def test_a_certificate_has_names() -> None:
    call, _ = grpc_call()
    assert list(call.subjects) == ["CN=ingest", "SAN=a.example", "SAN=�"]
