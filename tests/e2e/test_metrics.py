"""What a real server counts, by the metrics that Prometheus reads, against calls of known kinds and numbers."""

from __future__ import annotations

import contextlib
import io
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from bertstream.cli import main
from bertstream.client import Client, InvalidArgument, PermissionDenied
from bertstream.server.protocols.tei_v1 import tei_pb2
from tests.support.admin import AdminPort, Metrics
from tests.support.generation_checkpoints import tiny_causal
from tests.support.inference import InferenceCalls, request_of
from tests.support.server import Server, eventually, running
from tests.support.tei import TeiCalls

OPTIONS = ("--admin-port", "0", "--workers", "2", "--threads", "1", "--frontends", "2")
CALLS = "grpc_server_call_duration_seconds_count"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    path = tmp_path_factory.mktemp("keys") / "keys.toml"

    def add(name: str, role: str) -> str:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            assert main(["keys", "add", name, "--role", role, "--file", str(path)]) == 0
        return printed.getvalue().strip()

    return {"ops": add("ops", "admin"), "team": add("team", "use"), "file": str(path)}


@pytest.fixture(scope="module")
def server(
    checkpoint: Callable[[str], Path],
    compile_cache: Path,
    tmp_path_factory: pytest.TempPathFactory,
    keys: dict[str, str],
) -> Iterator[Server]:
    causal = tiny_causal(tmp_path_factory.mktemp("causal") / "causal", family="bert")
    models = [f"tiny={checkpoint('bert')}", f"causal={causal}"]
    with running(models, *OPTIONS, "--keys-file", keys["file"], cache=compile_cache) as started:
        yield started


@pytest.fixture(scope="module")
def admin(server: Server, keys: dict[str, str]) -> AdminPort:
    return AdminPort.of(server, key=keys["ops"])


class Counted:
    """What was counted of the calls that began and ended since this was made."""

    def __init__(self, admin: AdminPort) -> None:
        self._admin = admin
        self._before = admin.settled()
        self._after: Metrics | None = None

    def __call__(self, name: str, **labels: str) -> float:
        self._after = self._after or self._admin.settled()
        return self._after.sum(name, **labels) - self._before.sum(name, **labels)


@pytest.fixture
def counted(admin: AdminPort) -> Counted:
    return Counted(admin)


@pytest.fixture
def client(server: Server, keys: dict[str, str]) -> Iterator[Client]:
    with Client(server.address, api_key=keys["team"], channels=4) as opened:
        yield opened


def test_texts_are_counted_on_their_way(client: Client, counted: Counted) -> None:
    ids = [[5, 6, 7], [8, 9]]
    for _ in range(4):
        client.encode(ids, model="tiny")
    encode = {"model": "tiny", "work": "encode"}
    assert counted("bertstream_admitted_texts_total", **encode) == 8
    tokens = counted("bertstream_admitted_tokens_total", **encode)
    assert tokens >= 4 * 5
    assert counted("bertstream_batch_texts_total", model="tiny") == 8
    assert counted("bertstream_batch_size_sum", model="tiny") == tokens
    assert counted("bertstream_tokenize_texts_total", model="tiny") == 8
    assert counted("bertstream_tokenize_tokens_total", model="tiny") == tokens
    assert counted("bertstream_tokenize_duration_seconds_count", model="tiny") == 4
    assert counted("bertstream_queue_duration_seconds_count", priority="interactive", **encode) == 4
    assert 1 <= counted("bertstream_batch_fill_count", model="tiny") <= 4
    assert counted("bertstream_compute_duration_seconds_sum", model="tiny") > 0
    assert counted("bertstream_caller_tokens_total", caller="team") == tokens
    assert counted("bertstream_caller_calls_total", caller="team") == counted(CALLS)
    assert counted("bertstream_admitted_texts_total", model="causal") == 0


def test_a_bulk_stream_is_counted_as_one_call_of_many_texts(client: Client, counted: Counted) -> None:
    assert sum(len(each.ids) for each in client.encode_stream(["hello"] * 500, model="tiny")) == 500
    assert counted(CALLS, grpc_method="bertstream.v1.EncodingService/StreamEncodings", grpc_status="OK") == 1
    assert counted("bertstream_admitted_texts_total", model="tiny") == 500
    assert counted("bertstream_batch_texts_total", model="tiny") == 500
    assert counted("bertstream_queue_duration_seconds_count", model="tiny", priority="bulk") > 0
    assert counted("bertstream_queue_duration_seconds_count", model="tiny", priority="interactive") == 0
    assert counted("bertstream_stream_active") == 0


def test_another_server_s_interface_is_counted_by_its_names(
    server: Server, counted: Counted, keys: dict[str, str]
) -> None:
    requests = [tei_pb2.EmbedRequest(inputs="hello")] * 40
    with grpc.insecure_channel(server.address) as channel:
        calls, key = TeiCalls(channel), (("authorization", f"Bearer {keys['team']}"),)
        assert len(list(calls.many("Embed/EmbedStream", requests, metadata=key))) == 40
        with pytest.raises(grpc.RpcError) as raised:
            calls.one("Embed/Embed", requests[0])
    assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert counted(CALLS, grpc_method="tei.v1.Embed/Embed", grpc_status="UNAUTHENTICATED") == 1
    assert counted(CALLS, grpc_method="tei.v1.Embed/EmbedStream", grpc_status="OK") == 1
    assert counted("bertstream_admitted_texts_total", model="tiny") == 40
    tokens = counted("bertstream_admitted_tokens_total", model="tiny")
    assert counted("bertstream_caller_tokens_total", caller="team") == tokens >= 40 * 3
    # The first 16 of a stream are interactive, as there are clients that open a stream for each call; those that have
    # arrived together are one work.
    assert 1 <= counted("bertstream_queue_duration_seconds_count", model="tiny", priority="interactive") <= 16
    assert 1 <= counted("bertstream_queue_duration_seconds_count", model="tiny", priority="bulk") <= 24


def test_a_stream_of_batches_becomes_bulk_work_by_its_texts(
    server: Server, counted: Counted, keys: dict[str, str]
) -> None:
    good = [request_of("tiny", text=["hello"] * 4)] * 10
    bad = request_of("tiny", text=["hello"], parameters={"nonsense": 1})
    with grpc.insecure_channel(server.address) as channel:
        key = (("authorization", f"Bearer {keys['team']}"),)
        answers = list(InferenceCalls(channel).stream([*good, bad], metadata=key))
    assert [bool(answer.error_message) for answer in answers] == [False] * 10 + [True]
    method = "inference.GRPCInferenceService/ModelStreamInfer"
    assert counted(CALLS, grpc_method=method, grpc_status="OK") == 1
    assert counted("bertstream_admitted_texts_total", model="tiny") == 40
    assert counted("bertstream_queue_duration_seconds_count", model="tiny", priority="interactive") == 4
    assert counted("bertstream_queue_duration_seconds_count", model="tiny", priority="bulk") == 6
    assert counted("bertstream_refusals_total", of="item", reason="INVALID_PARAMETER") == 1


def test_generated_tokens_are_counted(client: Client, counted: Counted) -> None:
    client.generate(["a b"], model="causal", max_new_tokens=7, min_new_tokens=7)
    assert counted("bertstream_generation_tokens_total", model="causal") == 7
    assert counted("bertstream_generation_duration_seconds_count", model="causal", phase="prefill") == 1
    assert counted("bertstream_generation_duration_seconds_count", model="causal", phase="step") == 6
    assert counted("bertstream_queue_duration_seconds_count", model="causal", work="generate") == 1
    assert counted("bertstream_admitted_texts_total", model="causal", work="generate") == 1
    assert counted("bertstream_generation_cache_used", model="causal") == 0


def test_refusals_are_counted_by_reason(server: Server, client: Client, counted: Counted, keys: dict[str, str]) -> None:
    for _ in range(2):
        with pytest.raises(InvalidArgument) as raised:
            client.encode("hello", model="tiny", pooling="cls", layers=[99])
    with pytest.raises(PermissionDenied):
        client.unload_model("tiny")
    assert list(client.encode_stream([[5, 6], [10**6]], model="tiny", on_error="collect"))
    assert counted("bertstream_refusals_total", reason=raised.value.reason, of="call") == 2
    assert counted("bertstream_refusals_total", reason="ROLE_NOT_ALLOWED", of="call") == 1
    assert counted("bertstream_refusals_total", of="item") == 1


def test_gauges_say_what_there_is(admin: AdminPort) -> None:
    now = admin.settled()
    assert now.sum("bertstream_model_workers", model="tiny") == 2
    assert now.sum("bertstream_processes", kind="worker", model="tiny") == 2
    assert now.sum("bertstream_generation_cache_size", model="causal") == 2 * 16384
    assert now.sum("bertstream_model_compile_time_seconds", model="tiny") > 0
    assert now.sum("bertstream_build") == 1
    assert now.sum("bertstream_ready_ratio") == 1
    assert now.sum("bertstream_process_memory_bytes", process="frontend-1") > 1 << 20
    assert now.sum("bertstream_admitted_active") == 0


def test_what_killed_workers_had_counted_stays_and_nothing_is_counted_twice(
    server: Server, client: Client, admin: AdminPort, counted: Counted
) -> None:
    for _ in range(20):
        client.encode("hello", model="tiny")
    assert counted("bertstream_batch_texts_total", model="tiny") == 20
    before = admin.settled()
    for process in server.workers:
        os.kill(process.pid, signal.SIGKILL)
    for _ in range(20):
        client.encode("hello", model="tiny")
    eventually(lambda: admin.metrics().sum("bertstream_processes", kind="worker") == 4, "all workers")
    now = admin.settled()
    assert (
        now.sum("bertstream_batch_texts_total", model="tiny") - before.sum("bertstream_batch_texts_total", model="tiny")
        == 20
    )
    assert now.sum(CALLS, grpc_status="OK") - before.sum(CALLS, grpc_status="OK") == 20
    assert now.sum("bertstream_process_restarts_total", kind="worker", cause="signal SIGKILL") == 4
