"""Spans of methods and calls, as an application with OpenTelemetry has them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from bertstream.client import InvalidArgument
from tests.client.fake_server import FakeServer, status
from tests.client.fake_status import Code
from tests.support.application import application_spans
from tests.support.imports import ROOT
from tests.support.server import eventually

ENCODE, GET = "bertstream.v1.EncodingService/EncodeTexts", "bertstream.v1.ModelService/GetModel"
STREAM = "bertstream.v1.EncodingService/StreamEncodings"


@pytest.fixture
def spans() -> Iterator[Callable[[int], list[ReadableSpan]]]:
    """Yield a function that waits for so many spans, and returns them by their start."""

    def ended(count: int) -> list[ReadableSpan]:
        eventually(lambda: len(exporter.get_finished_spans()) >= count, f"{count} spans")
        return sorted(exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    exporter = application_spans()
    exporter.clear()
    yield ended
    exporter.clear()


Spans = Callable[[int], Sequence[ReadableSpan]]


def parents(spans: Sequence[ReadableSpan]) -> list[tuple[str, str]]:
    """Return the name of each span, and of the one that it is within."""
    names = {span.context.span_id: span.name for span in spans}
    return [(span.name, names[span.parent.span_id] if span.parent else "") for span in spans]


def test_a_method_s_calls_are_one_trace(server: FakeServer, client: Any, spans: Spans) -> None:
    client.encode(["one", "two"])
    ended = spans(2)
    assert parents(ended) == [("bertstream encode", ""), (ENCODE, "bertstream encode")]
    call = ended[1]
    assert call.kind is SpanKind.CLIENT
    assert call.attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": ENCODE,
        "rpc.response.status_code": "OK",
        "server.address": "127.0.0.1",
        "server.port": server.port,
    }
    assert call.status.status_code is StatusCode.UNSET
    context = call.context
    sent = server.seen.metadata["traceparent"].rpartition("-")[0]
    assert sent == f"00-{context.trace_id:032x}-{context.span_id:016x}"


def test_they_belong_to_the_application_s_own_span(client: Any, spans: Spans) -> None:
    with trace.get_tracer("application").start_as_current_span("work"):
        client.encode(["one"])
        list(client.encode_stream(["one", "two"]))
    assert {
        ("work", ""),
        ("bertstream encode", "work"),
        (ENCODE, "bertstream encode"),
        ("bertstream StreamEncodings", "work"),
        (STREAM, "bertstream StreamEncodings"),
    } <= set(parents(spans(6)))


def test_a_stream_that_is_taken_up_again_has_a_span_for_each_call(
    server: FakeServer, client: Any, spans: Spans
) -> None:
    server.does.breaks.append((1, status(Code.UNAVAILABLE, "gone")))
    list(client.encode_stream([str(number) for number in range(20)], batch_size=2))
    ended = spans(4)
    streams = [span for span in ended if span.name == STREAM]
    assert [(span.attributes or {})["rpc.response.status_code"] for span in streams] == ["UNAVAILABLE", "OK"]
    assert {within for name, within in parents(ended) if name == STREAM} == {"bertstream StreamEncodings"}


def test_a_failure_is_the_status_and_never_has_a_text(client: Any, spans: Spans) -> None:
    with pytest.raises(InvalidArgument):
        client.encode(["a bad secret"])
    ended = spans(2)
    for span in ended:
        assert span.status.status_code is StatusCode.ERROR
        assert not span.status.description
    assert (ended[1].attributes or {})["error.type"] == "INVALID_ARGUMENT"
    assert "secret" not in "".join(span.to_json() for span in ended)


def test_a_stream_that_is_left_is_no_failure(client: Any, spans: Spans) -> None:
    stream = client.encode_stream([str(number) for number in range(100)], batch_size=1)
    next(stream)
    stream.close()
    ended = [span for span in spans(3) if span.name == "bertstream StreamEncodings"]
    assert [span.status.status_code for span in ended] == [StatusCode.UNSET]


def test_a_traceparent_of_the_caller_s_own_is_left_alone(
    server: FakeServer, connect: Callable[..., Any], spans: Spans
) -> None:
    own = f"00-{'a' * 32}-{'b' * 16}-01"
    connect(server.address, metadata=[("traceparent", own)]).encode("one")
    assert server.seen.metadata["traceparent"] == own
    assert spans(2)


def test_without_opentelemetry_everything_works_and_nothing_of_it_is_loaded(server: FakeServer) -> None:
    code = f"""
import sys
sys.modules["opentelemetry"] = None  # as where it is not installed
from bertstream.client import Client
with Client({server.address!r}) as client:
    print(client.encode("one").shape)
    print([name for name in sys.modules if name.startswith("opentelemetry.")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1] == "[]"
    assert "traceparent" not in server.seen.metadata
