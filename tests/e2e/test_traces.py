"""One trace of each call, from a real server to a collector: the right parents, and seconds that add up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import grpc
import pytest

from bertstream.v1 import encoding_pb2, encoding_pb2_grpc, types_pb2
from bertstream.workers.compile.compiler import compile_model
from tests.support.collector import Collector, Seen, collecting
from tests.support.programs import plant_faults
from tests.support.server import Server, eventually, running

ENCODE = "bertstream.v1.EncodingService/EncodeTexts"
STREAM = "bertstream.v1.EncodingService/StreamEncodings"
LAYERS = "bertstream.v1.EncodingService/StreamLayers"
SERVER = 2  # the kind of span
HANGS_ON, FAILS_ON = 40, 41  # token ids
SECRET = "nobody may read this"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as running_one:
        yield running_one


@pytest.fixture(scope="module")
def traced(
    collector: Collector,
    checkpoint: Callable[[str], Path],
    new_cache: Callable[[Path], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    """Yield a server that traces every call, of one worker whose model hangs on a certain token."""
    cache = new_cache(tmp_path_factory.mktemp("traced") / "cache")
    plant_faults(compile_model(checkpoint("bert"), cache=cache), hangs_on=HANGS_ON, fails_on=FAILS_ON)
    options = ("--workers", "2", "--threads", "1", "--log-level", "debug", "--trace-endpoint", collector.endpoint)
    with running([f"tiny={checkpoint('bert')}"], *options, cache=cache) as server:
        yield server


class Called:
    """One call of a stub under a trace of its own."""

    def __init__(self, number: int) -> None:
        self.trace_id, self.span_id = f"{number:032x}", f"{number:016x}"

    def metadata(self, flags: str = "01") -> Sequence[tuple[str, str]]:
        return (("traceparent", f"00-{self.trace_id}-{self.span_id}-{flags}"), ("x-request-id", self.trace_id[-8:]))


def encode(server: Server, call: Called, ids: Sequence[int] = (50, 51), flags: str = "01", **options: float) -> None:
    texts = types_pb2.TextBatch(token_ids=types_pb2.TokenIdLists(token_ids=ids, lengths=[len(ids)]))
    with grpc.insecure_channel(server.address) as channel:
        stub = encoding_pb2_grpc.EncodingServiceStub(channel)
        stub.EncodeTexts(encoding_pb2.EncodeTextsRequest(inputs=texts), metadata=call.metadata(flags), **options)


def of(collector: Collector, call: Called, name: str) -> list[Seen]:
    """Return the trace of a call, once its server's span has come."""
    eventually(lambda: any(each.trace_id == call.trace_id and each.name == name for each in collector.spans), name)
    return [each for each in collector.spans if each.trace_id == call.trace_id]


def tree(spans: Sequence[Seen], parent_id: str) -> dict[str, object]:
    """Return the names of spans, each with those within it."""
    return {each.name: tree(spans, each.span_id) for each in spans if each.parent_id == parent_id}


def test_a_call_is_one_trace_of_all_that_was_done_for_it(traced: Server, collector: Collector) -> None:
    call = Called(0xA1)
    encode(traced, call)
    spans = of(collector, call, ENCODE)
    attempt = {"queue": {}, "compute": {}}
    assert tree(spans, call.span_id) == {ENCODE: {"tokenize": {}, "admit": {}, "attempt": attempt, "wire": {}}}
    (root,) = (each for each in spans if each.name == ENCODE)
    assert root.kind == SERVER
    assert root.attributes["rpc.response.status_code"] == "OK"
    assert root.resource["service.name"] == "bertstream"


def test_the_parts_lie_within_the_whole_and_add_up_to_no_more(traced: Server, collector: Collector) -> None:
    call = Called(0xA2)
    encode(traced, call, range(50, 90))
    spans = of(collector, call, ENCODE)
    by_id = {each.span_id: each for each in spans}
    for span in spans:
        within = [each for each in spans if each.parent_id == span.span_id]
        assert sum(each.seconds for each in within) <= span.seconds + 1e-5
        assert all(span.start - 1e-5 <= each.start <= each.end <= span.end + 1e-5 for each in within)
    assert all(each.parent_id in {*by_id, call.span_id} for each in spans)


def test_lines_of_the_log_carry_the_ids_of_the_trace(traced: Server, collector: Collector) -> None:
    call = Called(0xA3)
    encode(traced, call)
    spans = of(collector, call, ENCODE)
    eventually(lambda: any(each.get("request_id") == "000000a3" for each in traced.records), "the line")
    (line,) = (each for each in traced.records if each.get("request_id") == "000000a3")
    assert line["trace_id"] == call.trace_id
    assert line["span_id"] in {each.span_id for each in spans if each.kind == SERVER}


def test_a_caller_that_does_not_sample_is_not_traced_but_named_in_the_log(traced: Server, collector: Collector) -> None:
    call, after = Called(0xA4), Called(0xA5)
    encode(traced, call, flags="00")
    encode(traced, after)
    of(collector, after, ENCODE)
    time.sleep(0.6)  # longer than traces gather in any other frontend
    assert not any(each.trace_id == call.trace_id for each in collector.spans)
    assert [each for each in traced.records if each.get("trace_id") == call.trace_id]
