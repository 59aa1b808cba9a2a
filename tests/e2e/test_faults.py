"""Nothing is lost, and the server goes on, where workers die, hang or run out of memory, or clients vanish or stall."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from bertstream.client import Client, DeadlineExceeded, InvalidArgument, RpcError
from bertstream.v1 import encoding_pb2, encoding_pb2_grpc, tokenization_pb2, tokenization_pb2_grpc, types_pb2
from bertstream.workers.compile.compiler import compile_model
from tests.support.programs import plant_faults
from tests.support.server import WAITING, Server, busy, eventually, gone, running

HANGS_ON, FAILS_ON = 40, 41  # token ids


@pytest.fixture(scope="module")
def faulty(
    checkpoint: Callable[[str], Path], new_cache: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Yield a server with two workers of a tiny model that hangs and fails on certain tokens, in a cache of its own."""
    cache = new_cache(tmp_path_factory.mktemp("faulty") / "cache")
    plant_faults(compile_model(checkpoint("bert"), cache=cache), hangs_on=HANGS_ON, fails_on=FAILS_ON)
    # A machine with much else to do has time for long calls, too.
    patient = ("--drain-seconds", "10", "--queue-seconds", "240", *WAITING)
    options = ("--workers", "2", "--threads", "1", "--batch-seconds", "2", *patient)
    with running([f"tiny={checkpoint('bert')}"], *options, cache=cache) as server:
        yield server


@pytest.fixture
def client(faulty: Server) -> Iterator[Client]:
    with Client(faulty.address, timeout=240) as opened:
        eventually(lambda: opened.model().live_workers == 2, "two live workers")
        yield opened


def ids_of(count: int, seed: int = 0) -> list[list[int]]:
    """Return texts as token ids, without those on which the model hangs or fails."""
    random = np.random.default_rng(seed)
    return [random.integers(50, 90, random.integers(2, 60)).tolist() for _ in range(count)]


def test_killing_workers_during_a_stream_loses_nothing(faulty: Server, client: Client) -> None:
    texts = ids_of(6000)
    expected = client.encode(texts[:200])
    seen: list[int] = []
    for number, batch in enumerate(client.encode_stream(texts, batch_size=50)):
        if number in (5, 30):
            faulty.workers[number % 2].send_signal(signal.SIGKILL)
        if batch.ids[0] < 200:
            np.testing.assert_allclose(batch.vectors, expected[batch.ids], atol=1e-5)
        seen.extend(batch.ids.tolist())
    assert seen == list(range(6000))


def test_killing_every_worker_only_delays_a_unary_call(faulty: Server, client: Client) -> None:
    for worker in faulty.workers:
        worker.send_signal(signal.SIGKILL)
    assert client.encode(ids_of(3)).shape == (3, 36)


def test_health_follows_the_workers(faulty: Server, client: Client) -> None:
    assert client.health()
    assert client.health("models/tiny")
    for worker in faulty.workers:
        worker.send_signal(signal.SIGKILL)
    eventually(lambda: not client.health() and not client.health("models/tiny"), "health to turn false")
    assert client.health("bertstream.v1.TokenizationService")
    eventually(lambda: bool(client.health()), "health to turn true again")


def test_a_text_that_hangs_workers_is_refused_and_its_neighbours_are_not(client: Client) -> None:
    good = ids_of(20)
    (batch,) = client.encode_stream([*good[:10], [5, HANGS_ON, 6], *good[10:]], on_error="collect", batch_size=21)
    (error,) = batch.errors
    assert (error.id, error.error.status, error.error.reason) == (10, "ABORTED", "POISONOUS_INPUT")
    others = np.delete(batch.vectors, 10, axis=0)
    np.testing.assert_allclose(others, client.encode(good), atol=1e-5)


def test_a_text_that_needs_too_much_memory_fails_alone(client: Client) -> None:
    good = ids_of(8)
    with pytest.raises(RpcError) as caught:
        client.encode([*good, [5, FAILS_ON]])
    assert caught.value.reason == "OUT_OF_MEMORY"
    (batch,) = client.encode_stream([*good, [5, FAILS_ON]], on_error="collect")
    assert [error.id for error in batch.errors] == [8]
    np.testing.assert_allclose(batch.vectors[:8], client.encode(good), atol=1e-5)


def test_a_deadline_of_one_millisecond_is_exceeded_and_computes_nothing(faulty: Server, client: Client) -> None:
    workers = faulty.workers
    before = [worker.pid for worker in workers]
    for worker in workers:
        worker.suspend()  # else one of them might just begin within the time
    try:
        with pytest.raises(DeadlineExceeded):
            client.encode([[5, HANGS_ON]] * 50, timeout=0.001)
        time.sleep(0.1)
    finally:
        for worker in workers:
            worker.resume()
    time.sleep(3)  # if it had been computed, the workers would have been replaced by now
    assert [worker.pid for worker in faulty.workers] == before
    assert client.encode(ids_of(1)).shape == (1, 36)


def test_a_cancelled_call_leaves_the_queue(faulty: Server, client: Client) -> None:
    """Cancel a call that would keep both workers busy for a long time, and see them idle soon."""
    channel = grpc.insecure_channel(faulty.address)
    stub = encoding_pb2_grpc.EncodingServiceStub(channel)
    ids = types_pb2.TokenIdLists(token_ids=[60] * 500 * 1000, lengths=[500] * 1000)
    request = encoding_pb2.EncodeTextsRequest(inputs=types_pb2.TextBatch(token_ids=ids))
    works = busy(*faulty.workers)
    calls = [stub.EncodeTexts.future(request) for _ in range(2)]
    eventually(works, "the workers to be busy")
    for call in calls:
        call.cancel()
    channel.close()
    eventually(lambda: all(w.cpu_percent(0.5) < 30 for w in faulty.workers), "the workers to be idle", seconds=20)
    assert client.encode(ids_of(1)).shape == (1, 36)


def test_a_reader_that_stalls_costs_bounded_memory_and_stops_nobody(faulty: Server, client: Client) -> None:
    channel = grpc.insecure_channel(faulty.address)
    options = encoding_pb2.EncodingOptions(outputs=[encoding_pb2.ENCODING_OUTPUT_LAST_HIDDEN_STATE])
    ids = types_pb2.TokenIdLists(token_ids=[60] * 500 * 64, lengths=[500] * 64)  # answers of 4.6 MB

    def requests() -> Iterator[encoding_pb2.StreamEncodingsRequest]:
        yield encoding_pb2.StreamEncodingsRequest(options=options)
        for number in range(10_000):
            items = encoding_pb2.EncodingItems(first_id=number * 64, inputs=types_pb2.TextBatch(token_ids=ids))
            yield encoding_pb2.StreamEncodingsRequest(items=items)

    call = encoding_pb2_grpc.EncodingServiceStub(channel).StreamEncodings(requests())
    assert next(call).HasField("started")
    before = settled(faulty.memory)
    time.sleep(3)
    assert faulty.memory() - before < 64 << 20
    assert client.encode(ids_of(10)).shape == (10, 36)
    call.cancel()
    channel.close()


def settled(memory: Callable[[], int]) -> int:
    """Return the bytes once they grow by less than 8 MiB in a second."""
    sizes = [memory()]

    def grows() -> bool:
        time.sleep(1)
        sizes.append(memory())
        return sizes[-1] - sizes[-2] >= 8 << 20

    eventually(lambda: not grows(), "the end of growth")
    return sizes[-1]


def test_a_client_that_vanishes_mid_stream_leaves_no_work_behind(faulty: Server, client: Client) -> None:
    stream = client.encode_stream(itertools.cycle(ids_of(100)))
    next(stream)
    stream.close()
    eventually(lambda: all(w.cpu_percent(0.5) < 30 for w in faulty.workers), "the workers to be idle", seconds=30)


def test_a_worker_that_stops_answering_is_replaced(faulty: Server, client: Client) -> None:
    (stopped, *_) = faulty.workers
    stopped.suspend()
    eventually(lambda: gone(stopped), "its end")
    eventually(lambda: client.model().live_workers == 2, "its replacement")


def test_a_frontend_that_dies_is_replaced(faulty: Server, client: Client) -> None:
    for frontend in faulty.children("bertstream.server.frontend.process"):
        frontend.kill()
    eventually(lambda: bool(_answers(client)), "the new frontend")


def _answers(client: Client) -> bool:
    try:
        return bool(client.health(timeout=1)) and client.encode(ids_of(1)).shape == (1, 36)
    except RpcError:
        return False


def test_many_callers_at_once(client: Client) -> None:
    texts = ids_of(64)
    expected = client.encode(texts)
    wrong: list[int] = []

    def call(index: int) -> None:
        answers = [client.encode([texts[index]])[0] for _ in range(10)]
        wrong.extend(index for answer in answers if not np.allclose(answer, expected[index], atol=1e-5))

    threads = [threading.Thread(target=call, args=(index,)) for index in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_too_much_at_once_is_refused_with_a_time_to_retry(
    checkpoint: Callable[[str], Path], compile_cache: Path
) -> None:
    options = ("--workers", "1", "--queue-tokens", "2000", "--queue-seconds", "240")  # so that tokens are what bounds
    with running([f"tiny={checkpoint('bert')}"], *options, cache=compile_cache) as server:
        channel = grpc.insecure_channel(server.address, options=[("grpc.enable_retries", 0)])
        stub = encoding_pb2_grpc.EncodingServiceStub(channel)
        ids = types_pb2.TokenIdLists(token_ids=[60] * 500 * 400, lengths=[500] * 400)
        request = encoding_pb2.EncodeTextsRequest(inputs=types_pb2.TextBatch(token_ids=ids))
        calls = [stub.EncodeTexts.future(request) for _ in range(4)]
        codes = [call.code() for call in calls]
        assert codes.count(grpc.StatusCode.OK) >= 1
        refused = [call for call in calls if call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED]
        assert len(refused) + codes.count(grpc.StatusCode.OK) == 4
        assert refused
        assert all("grpc-retry-pushback-ms" in dict(call.trailing_metadata()) for call in refused)
        with Client(server.address) as client:  # streams wait where unary calls are refused
            rows = sum(batch.ids.size for batch in client.encode_stream(ids_of(500)))
            assert rows == 500
        channel.close()


def test_nothing_is_computed_for_a_refused_call(client: Client) -> None:
    with pytest.raises(InvalidArgument):
        client.encode([[5, HANGS_ON], [99_999]])


async def test_a_burst_of_calls_is_answered_or_refused_with_a_reason(faulty: Server) -> None:
    inputs = types_pb2.TextBatch(texts=types_pb2.Texts(texts=["a fox"]))
    request = tokenization_pb2.TokenizeTextsRequest(inputs=inputs)
    async with grpc.aio.insecure_channel(faulty.address, [("grpc.enable_retries", 0)]) as channel:
        stub: Any = tokenization_pb2_grpc.TokenizationServiceStub(channel)
        calls = [stub.TokenizeTexts(request) for _ in range(1900)]  # that one connection may have under way
        codes = [await call.code() for call in calls]
        assert set(codes) <= {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
        for call, code in zip(calls, codes, strict=True):
            if code is not grpc.StatusCode.OK:
                assert "grpc-status-details-bin" in dict(await call.trailing_metadata())
        assert (await stub.TokenizeTexts(request)).usage.texts == 1
