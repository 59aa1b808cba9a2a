"""Both clients against a fake server: bulk streams."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest

import bertstream.client as sdk
from bertstream.client import AsyncClient, Client, InvalidArgument, Unavailable
from tests.client.fake_encodings import HIDDEN, vector
from tests.client.fake_server import Code, FakeServer, status
from tests.client.fake_status import PATIENCE
from tests.support.ports import held_port

pytestmark = pytest.mark.smoke

GONE = status(Code.UNAVAILABLE, "gone")


class Source:
    """An iterable of texts that counts how many were taken."""

    def __init__(self, count: int) -> None:
        self.count, self.taken = count, 0

    def __iter__(self) -> Iterator[str]:
        for index in range(self.count):
            self.taken += 1
            yield f"t{index}"


def test_fifty_thousand_texts_in_order_with_bounded_memory(server: FakeServer, client: Any) -> None:
    source, given, ahead = Source(50_000), 0, 0
    for batch in client.encode_stream(source, batch_size=128):
        assert batch.ids[0] == given
        np.testing.assert_array_equal(batch.vectors[-1], vector(f"text:t{batch.ids[-1]}"))
        given += len(batch)
        ahead = max(ahead, source.taken - given)
    assert given == 50_000
    assert ahead <= 2 * server.does.window + 128
    assert set(server.seen.answered.values()) == {1}


@pytest.mark.parametrize("ordered", [True, False])
def test_answers_in_any_order(server: FakeServer, client: Any, ordered: bool) -> None:
    server.does.reverse, server.does.hold_first = True, 150
    batches = list(client.encode_stream([f"t{i}" for i in range(500)], ordered=ordered, batch_size=50))
    ids = np.concatenate([batch.ids for batch in batches])
    assert (ids.tolist() == list(range(500))) == ordered
    assert sorted(ids.tolist()) == list(range(500))
    vectors = np.concatenate([batch.vectors for batch in batches])
    np.testing.assert_array_equal(vectors, [vector(f"text:t{i}") for i in ids])


def test_ids_and_kinds(client: Any) -> None:
    items = [(9, "a"), (7, ("b", "c")), (9, ["d"]), (2**40, [5])]
    (batch,) = client.encode_stream(items)
    assert batch.ids.tolist() == [9, 7, 9, 2**40]
    np.testing.assert_array_equal(batch.vectors, [vector(key) for key in ("text:a", "pair:b|c", "words:d", "ids:5")])


@pytest.mark.parametrize("on_error", ["raise", "collect"])
@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, np.uint64(2**63)], ids=str)
@pytest.mark.parametrize("name", ["encode", "forward", "tokenize", "predict", "generate"])
def test_ids_that_do_not_fit(server: FakeServer, client: Any, name: str, number: Any, on_error: str) -> None:
    task = ["classify"] if name == "predict" else []
    stream = getattr(client, f"{name}_stream")(*task, [(5, "a"), (number, "b")], on_error=on_error)
    with pytest.raises(ValueError, match=rf"item 1: its id must be from -2\*\*63 to 2\*\*63 - 1, not {number}"):
        list(stream)
    assert server.seen.messages == 0


def test_the_largest_ids(client: Any) -> None:
    (batch,) = client.encode_stream([(np.uint64(2**63 - 1), "a"), (-(2**63), "b"), (np.int8(3), "c")])
    assert batch.ids.tolist() == [2**63 - 1, -(2**63), 3]


def test_collected_errors_align(client: Any) -> None:
    (batch,) = client.encode_stream(["a", "bad", "c", "\ud800"], on_error="collect")
    assert batch.ids.tolist() == [0, 1, 2, 3]
    assert np.isnan(batch.vectors).all(axis=1).tolist() == [False, True, False, True]
    assert [(failure.id, failure.error.reason) for failure in batch.errors] == [
        (1, "INVALID_TEXT"),
        (3, "INVALID_TEXT"),
    ]


def test_all_failed(client: Any) -> None:
    (batch,) = client.encode_stream(["bad"], on_error="collect", dimensions=5, wire_type="float16")
    assert (batch.vectors.shape, batch.vectors.dtype) == ((1, 5), np.float16)


def test_raised_errors_say_which_item(client: Any) -> None:
    seen: list[int] = []
    stream = client.encode_stream([(i, "bad" if i == 70 else "a") for i in range(5000)], batch_size=16)
    with pytest.raises(InvalidArgument, match="item 70: a bad text") as caught:
        seen.extend(item for batch in stream for item in batch.ids.tolist())
    assert caught.value.item_id == 70
    assert seen == list(range(70))


def test_a_broken_connection_loses_nothing_and_repeats_nothing(server: FakeServer, client: Any) -> None:
    server.does.breaks.extend([(0, GONE), (100, GONE), (300, status(Code.RESOURCE_EXHAUSTED, "busy"))])
    ids = [item for batch in client.encode_stream([f"t{i}" for i in range(2000)]) for item in batch.ids]
    assert ids == list(range(2000))
    assert server.seen.answered == Counter(f"text:t{i}" for i in range(2000))
    assert server.seen.rpcs["StreamEncodings"] == 4


def test_a_server_that_restarts(connect: Any) -> None:
    with held_port() as port:
        servers = [FakeServer(port)]
        ids: list[int] = []
        for batch in connect(servers[0].address).encode_stream([f"t{i}" for i in range(3000)]):
            ids += batch.ids.tolist()
            if len(ids) > 1000 and len(servers) == 1:
                servers[0].close()
                servers.append(FakeServer(port))
        servers[1].close()
    assert ids == list(range(3000))


def test_reopening_is_given_up(server: FakeServer, connect: Any) -> None:
    server.does.breaks.extend([(0, GONE)] * 99)
    with pytest.raises(Unavailable, match="gone"):
        list(connect(server.address, reconnect_seconds=0.3).encode_stream(["a"]))
    assert 2 < server.seen.rpcs["StreamEncodings"] < 10


def test_a_small_window_is_honoured(server: FakeServer, client: Any) -> None:
    server.does.window = 3
    ids = [item for batch in client.encode_stream([f"t{i}" for i in range(100)], batch_size=10) for item in batch.ids]
    assert ids == list(range(100))
    assert server.seen.most_under_way <= 10


def test_closing_early_cancels_the_call(server: FakeServer, client: Any) -> None:
    stream = client.encode_stream(Source(10**9))
    next(stream)
    assert not server.seen.cancelled.is_set()
    stream.close()
    assert server.seen.cancelled.wait(20)


def test_dropping_the_generator_cancels_the_call(server: FakeServer) -> None:
    with Client(server.address) as client:
        for _ in client.encode_stream(Source(10**9)):
            break
        gc.collect()
        assert server.seen.cancelled.wait(20)


def test_an_exception_of_the_input_comes_through(server: FakeServer, client: Any) -> None:
    def texts() -> Iterator[str]:
        yield from ["a"] * 200
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        list(client.encode_stream(texts()))
    assert server.seen.cancelled.wait(20)


def test_the_input_is_iterated_in_the_callers_thread(server: FakeServer) -> None:
    threads = set()

    def texts() -> Iterator[str]:
        for _ in range(300):
            threads.add(threading.current_thread())
            yield "a"

    with Client(server.address) as client:
        list(client.encode_stream(texts()))
    assert threads == {threading.current_thread()}


def test_a_deadline_ends_a_stream(server: FakeServer, client: Any) -> None:
    client.model()
    server.does.stall = threading.Event()
    start = time.monotonic()
    with pytest.raises(sdk.DeadlineExceeded):
        list(client.encode_stream(["a"] * 1000, timeout=0.3))
    assert time.monotonic() - start < PATIENCE / 2  # while the server waits


def test_where_no_time_is_left_to_wait_the_error_of_the_break_is_told(server: FakeServer, client: Any) -> None:
    client.model()
    server.does.breaks.append((0, status(Code.RESOURCE_EXHAUSTED, "busy", "OVERLOADED", retry_seconds=60)))
    start = time.monotonic()
    with pytest.raises(sdk.Overloaded, match="busy"):
        list(client.encode_stream(["a"], timeout=30))
    assert time.monotonic() - start < 20


def test_no_texts(server: FakeServer, client: Any) -> None:
    assert list(client.encode_stream([])) == []
    assert list(client.encode_stream(iter(()))) == []
    assert server.seen.rpcs["StreamEncodings"] == 0


def test_tokenize_stream(server: FakeServer, client: Any) -> None:
    server.does.reverse = True
    texts = ["bad" if i == 7 else "a" * (i % 5) for i in range(200)]
    batches = list(client.tokenize_stream(texts, max_length=6, overflow=True, on_error="collect"))
    assert [item for batch in batches for item in batch.ids] == list(range(200))
    assert [failure.id for batch in batches for failure in batch.errors] == [7]
    for batch in batches:
        windows = Counter(int(batch.ids[row.text_index]) for row in batch.tokens)
        assert windows == Counter({i: -(-(5 + i % 5) // 4) for i in batch.ids.tolist() if i != 7})


@pytest.mark.parametrize(
    "arguments", [{"batch_size": 0}, {"on_error": "ignore"}, {"pooling": "best"}, {"prompt": "a", "prompt_name": "b"}]
)
def test_misuse_shows_at_once(client: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        # The call itself raises, before anything is iterated.
        getattr(client, "client", client).encode_stream(["a"], **arguments)


def test_progress_reports(server: FakeServer, client: Any) -> None:
    reports: list[sdk.Progress] = []
    texts = ["a" if i else "bad" for i in range(300)]
    list(client.encode_stream(texts, on_error="collect", progress=reports.append))
    last = reports[-1]
    assert (last.texts, last.failed, last.total, last.finished) == (300, 1, 300, True)
    assert last.tokens == 299 * len("text:a")
    assert len(reports) < 10


async def test_async_iterables(server: FakeServer) -> None:
    async def texts() -> AsyncIterator[str]:
        for index in range(500):
            await asyncio.sleep(0)
            yield f"t{index}"

    async with AsyncClient(server.address) as client:
        ids = [item async for batch in client.encode_stream(texts()) for item in batch.ids]
    assert ids == list(range(500))


async def test_cancelling_a_task_cancels_the_call(server: FakeServer) -> None:
    async with AsyncClient(server.address) as client:
        await client.model()
        server.does.stall = threading.Event()

        async def consume() -> None:
            async for _ in client.encode_stream(Source(10**9)):
                pass

        task = asyncio.create_task(consume())
        await server.seen.call_of("StreamEncodings")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(server.seen.cancelled.wait, PATIENCE)


async def test_streams_of_one_client_at_once(server: FakeServer) -> None:
    async with AsyncClient(server.address) as client:

        async def count(texts: int) -> int:
            return sum([len(batch) async for batch in client.encode_stream(Source(texts))])

        assert await asyncio.gather(*(count(100 * i) for i in range(5))) == [0, 100, 200, 300, 400]


def test_threads_share_a_client(server: FakeServer) -> None:
    results: list[int] = []
    with Client(server.address) as client:

        def work() -> None:
            results.append(sum(len(batch) for batch in client.encode_stream(Source(500))))
            results.append(len(client.encode([f"t{i}" for i in range(200)])))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(results) == [200] * 4 + [500] * 4


def test_half_the_width_is_kept_when_dimensions_are_asked_for(client: Any) -> None:
    (batch,) = client.encode_stream(["a"], dimensions=HIDDEN // 2)
    assert batch.vectors.shape == (1, HIDDEN // 2)


@pytest.mark.parametrize(("size", "error"), [(1.5, TypeError), ("64", TypeError), (None, TypeError), (0, ValueError)])
def test_a_size_of_batches_that_makes_no_sense_is_named(client: Client, size: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="batch_size must be"):
        list(client.encode_stream(["a"], batch_size=size))
