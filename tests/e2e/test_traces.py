"""One trace of each call, from a real server to a collector: the right parents, and seconds that add up."""

from __future__ import annotations

import itertools
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import grpc
import pytest
from opentelemetry import trace

from bertstream.client import Client, RpcError
from bertstream.v1 import encoding_pb2, encoding_pb2_grpc, types_pb2
from bertstream.workers.compile.compiler import compile_model
from tests.support.application import application_spans
from tests.support.collector import Collector, Seen, collecting
from tests.support.generation_checkpoints import tiny_causal
from tests.support.programs import plant_faults
from tests.support.server import WAITING, Server, eventually, running

ENCODE = "bertstream.v1.EncodingService/EncodeTexts"
STREAM = "bertstream.v1.EncodingService/StreamEncodings"
GENERATION = "bertstream.v1.GenerationService/StreamGeneration"
LAYERS = "bertstream.v1.EncodingService/StreamLayers"
SERVER = 2  # the kind of span
HANGS_ON, FAILS_ON = 40, 41  # token ids
SECRET = "nobody may read this"
ATTEMPT: dict[str, object] = {"queue": {}, "compute": {}}


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
    """Yield a server that traces every call, of a model that fails on a certain token, and of one that generates."""
    cache = new_cache(tmp_path_factory.mktemp("traced") / "cache")
    plant_faults(compile_model(checkpoint("bert"), cache=cache), hangs_on=HANGS_ON, fails_on=FAILS_ON)
    traces = ("--log-level", "debug", "--trace-endpoint", collector.endpoint)
    options = ("--workers", "1", "--threads", "1", *WAITING, *traces)
    causal = tiny_causal(tmp_path_factory.mktemp("causal") / "causal", family="bert")
    with running([f"tiny={checkpoint('bert')}", f"causal={causal}"], *options, cache=cache) as server:
        yield server


class Called:
    """One call of a stub under a trace of its own."""

    def __init__(self, number: int) -> None:
        self.trace_id, self.span_id = f"{number:032x}", f"{number:016x}"

    def metadata(self, flags: str = "01") -> tuple[tuple[str, str], ...]:
        return (("traceparent", f"00-{self.trace_id}-{self.span_id}-{flags}"), ("x-request-id", self.trace_id[-8:]))


def encode(server: Server, call: Called, ids: Sequence[int] = (50, 51), flags: str = "01") -> None:
    texts = types_pb2.TextBatch(token_ids=types_pb2.TokenIdLists(token_ids=ids, lengths=[len(ids)]))
    with grpc.insecure_channel(server.address) as channel:
        stub = encoding_pb2_grpc.EncodingServiceStub(channel)
        stub.EncodeTexts(encoding_pb2.EncodeTextsRequest(inputs=texts), metadata=call.metadata(flags))


def tree(spans: Sequence[Seen], parent_id: str) -> dict[str, object]:
    """Return the names of spans, each with those within it."""
    return {each.name: tree(spans, each.span_id) for each in spans if each.parent_id == parent_id}


def test_a_call_is_one_trace_of_all_that_was_done_for_it(traced: Server, collector: Collector) -> None:
    call = Called(0xA1)
    encode(traced, call)
    spans = collector.trace(call.trace_id, ENCODE)
    assert tree(spans, call.span_id) == {ENCODE: {"tokenize": {}, "admit": {}, "attempt": ATTEMPT, "wire": {}}}
    (root,) = (each for each in spans if each.name == ENCODE)
    assert root.kind == SERVER
    assert root.attributes["rpc.response.status_code"] == "OK"
    assert root.resource["service.name"] == "bertstream"


def test_the_application_the_client_and_the_server_have_one_trace(traced: Server, collector: Collector) -> None:
    exporter = application_spans()
    exporter.clear()
    with trace.get_tracer("application").start_as_current_span("work") as work, Client(traced.address) as client:
        client.encode([[50, 51]])
    of_client = {span.name: span for span in exporter.get_finished_spans()}
    trace_id = f"{work.get_span_context().trace_id:032x}"
    root, *_ = collector.trace(trace_id, ENCODE)
    call, method = of_client[ENCODE], of_client["bertstream encode"]
    assert root.parent_id == f"{call.context.span_id:016x}"
    assert call.parent == method.context
    assert method.parent == of_client["work"].context
    assert (call.start_time or 0) / 1e9 - 1e-3 < root.start <= root.end < (call.end_time or 0) / 1e9 + 1e-3


def test_the_parts_lie_within_the_whole_and_add_up_to_no_more(traced: Server, collector: Collector) -> None:
    call = Called(0xA2)
    encode(traced, call, range(50, 90))
    spans = collector.trace(call.trace_id, ENCODE)
    by_id = {each.span_id: each for each in spans}
    for span in spans:
        within = [each for each in spans if each.parent_id == span.span_id]
        assert sum(each.seconds for each in within) <= span.seconds + 1e-5
        assert all(span.start - 1e-5 <= each.start <= each.end <= span.end + 1e-5 for each in within)
    assert all(each.parent_id in {*by_id, call.span_id} for each in spans)


def test_lines_of_the_log_carry_the_ids_of_the_trace(traced: Server, collector: Collector) -> None:
    call = Called(0xA3)
    encode(traced, call)
    spans = collector.trace(call.trace_id, ENCODE)
    eventually(lambda: any(each.get("request_id") == "000000a3" for each in traced.records), "the line")
    (line,) = (each for each in traced.records if each.get("request_id") == "000000a3")
    assert line["trace_id"] == call.trace_id
    assert line["span_id"] in {each.span_id for each in spans if each.kind == SERVER}


def test_a_caller_that_does_not_sample_is_not_traced_but_named_in_the_log(traced: Server, collector: Collector) -> None:
    call, after = Called(0xA4), Called(0xA5)
    encode(traced, call, flags="00")
    encode(traced, after)
    collector.trace(after.trace_id, ENCODE)
    time.sleep(0.6)  # longer than traces gather in any other frontend
    assert not any(each.trace_id == call.trace_id for each in collector.spans)
    eventually(lambda: any(each.get("trace_id") == call.trace_id for each in traced.records), "the line")


def test_what_a_caller_did_wrong_is_no_failure_of_the_server(traced: Server, collector: Collector) -> None:
    call = Called(0xA6)
    with pytest.raises(grpc.RpcError):
        encode(traced, call, [10**6])
    root, *_ = collector.trace(call.trace_id, ENCODE)
    assert root.attributes["rpc.response.status_code"] == "INVALID_ARGUMENT"
    assert root.error == ""


def test_what_went_wrong_at_a_worker_is_the_attempt_s(traced: Server, collector: Collector) -> None:
    call = Called(0xA7)
    with pytest.raises(grpc.RpcError):
        encode(traced, call, [50, FAILS_ON])
    spans = collector.trace(call.trace_id, ENCODE)
    assert [each.error for each in spans if each.name == "attempt"] == ["OUT_OF_MEMORY"]


def test_no_text_is_in_any_span(traced: Server, collector: Collector) -> None:
    with Client(traced.address, metadata=Called(0xA8).metadata()) as client:
        client.encode(SECRET)
        list(client.encode_stream([SECRET]))
        with pytest.raises(RpcError):
            client.encode("x", model=SECRET)
    collector.trace(Called(0xA8).trace_id, STREAM)
    assert SECRET not in str(collector.spans)


def test_a_killed_worker_is_one_attempt_and_its_successor_another(traced: Server, collector: Collector) -> None:
    numbers, spans, pids = itertools.count(0xA90), list[Seen](), set[int]()

    def killed_with_work() -> bool:
        """Kill the workers under a call, and return whether one of them had its work already."""
        call = Called(next(numbers))
        eventually(lambda: len(traced.workers) == 2, "both models' workers")
        workers = traced.workers  # of which one gets the work
        for worker in workers:
            worker.send_signal(signal.SIGSTOP)
        thread = threading.Thread(target=encode, args=(traced, call))
        thread.start()
        time.sleep(0.5)  # for the work to be on its way, unless the machine has much else to do
        for worker in workers:
            worker.send_signal(signal.SIGKILL)
        thread.join(120)
        pids.update(worker.pid for worker in workers)
        spans[:] = collector.trace(call.trace_id, ENCODE)
        return sum(each.name == "attempt" for each in spans) > 1

    eventually(killed_with_work, "workers that are killed with work")
    first, second = (each for each in spans if each.name == "attempt")
    assert (first.error, second.error) == ("WORKER_LOST", "")
    assert [each.attributes["bertstream.pid"] in pids for each in (first, second)] == [True, False]
    assert tree(spans, second.span_id) == ATTEMPT
    assert tree(spans, first.span_id) == {}
    assert any(each.name == "await worker" for each in spans)


def test_a_stream_has_a_span_for_each_message_and_no_more_than_a_bounded_number(
    traced: Server, collector: Collector
) -> None:
    few, many = Called(0xB1), Called(0xB2)
    with Client(traced.address, metadata=few.metadata()) as client:
        list(client.encode_stream([[50, 51]]))
    within: dict[str, object] = {"tokenize": {}, "admit": {}, "attempt": ATTEMPT}
    root = next(each for each in collector.trace(few.trace_id, STREAM) if each.name == STREAM)
    assert tree(collector.trace(few.trace_id, STREAM), root.span_id) == {"wire": {}, "items": within}
    stub_requests = [encoding_pb2.StreamEncodingsRequest(options=encoding_pb2.EncodingOptions())]
    texts = types_pb2.TextBatch(token_ids=types_pb2.TokenIdLists(token_ids=[50, 51], lengths=[2]))
    stub_requests += [
        encoding_pb2.StreamEncodingsRequest(items=encoding_pb2.EncodingItems(first_id=number, inputs=texts))
        for number in range(100)
    ]
    with grpc.insecure_channel(traced.address) as channel:
        stub = encoding_pb2_grpc.EncodingServiceStub(channel)
        assert len(list(stub.StreamEncodings(iter(stub_requests), metadata=many.metadata()))) > 50
    eventually(lambda: len(collector.trace(many.trace_id, STREAM)) >= 128, "all spans, whatever they came in")
    spans = collector.trace(many.trace_id, STREAM)
    root = next(each for each in spans if each.name == STREAM)
    assert len(spans) == 128
    assert root.attributes["bertstream.spans_left_out"] > 100


def test_each_layer_is_a_step(traced: Server, collector: Collector) -> None:
    call = Called(0xB3)
    with Client(traced.address, metadata=call.metadata()) as client:
        layers = len(list(client.stream_layers("one two")))
    spans = collector.trace(call.trace_id, LAYERS)
    steps = [each for each in spans if each.name == "step"]
    assert [each.attributes["bertstream.layer"] for each in steps] == list(range(len(steps)))
    assert layers >= len(steps) > 2
    assert tree(spans, steps[0].span_id) == {"attempt": ATTEMPT}


def test_a_generation_tells_when_its_first_token_came(traced: Server, collector: Collector) -> None:
    call = Called(0xB4)
    with Client(traced.address, metadata=call.metadata()) as client:
        pieces = list(client.stream_generate("one", model="causal", max_new_tokens=4, min_new_tokens=4))
    spans = collector.trace(call.trace_id, GENERATION)
    (generate,) = (each for each in spans if each.name == "generate")
    assert pieces
    assert generate.events == ("first token",)
    assert generate.attributes["bertstream.tokens"] == 4
    assert generate.attributes["bertstream.input_tokens"] > 0
    assert tree(spans, generate.span_id) == {"admit": {}, "attempt": ATTEMPT}


def test_a_silent_collector_delays_neither_calls_nor_the_end(
    checkpoint: Callable[[str], Path], compile_cache: Path
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        options = ("--workers", "1", "--trace-endpoint", endpoint)
        with running([f"tiny={checkpoint('bert')}"], *options, cache=compile_cache) as server:
            for number in range(20):
                encode(server, Called(0xC00 + number))
            time.sleep(1.0)
            assert server.stop() == 0
    # A frontend says so after a second at the end, or where an export has failed, for which it would wait for ten.
    told = [each["message"] for each in server.records if each["message"].startswith("the collector ")]
    assert told[0].partition(" take ")[0] in ("the collector did not", "the collector does not")
    (stopped,) = server.logged("stopped")
    assert stopped["cut_off"] == 0
