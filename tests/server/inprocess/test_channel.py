"""The SDK over a channel within the process, to a model whose worker answers with the first id of each text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from bertstream.client import AsyncClient, DeadlineExceeded, FailedPrecondition, InvalidArgument, NotFound
from bertstream.server.core.versions import Versions
from bertstream.server.inprocess.channel import InProcessChannel
from bertstream.server.inprocess.services import channel_to
from bertstream.server.settings import FrontendSettings, Limits, ModelSettings
from bertstream.workers.trust.seal import seal
from tests.server.protocols.bertstream_v1.validation.support import description
from tests.support.fake_worker import FakeWorker
from tests.support.waiting import until

WORDS = ["[UNK]", *(f"w{number}" for number in range(1, 50))]


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[FakeWorker]:
    made = FakeWorker(tmp_path / "worker.socket")
    await made.start()
    yield made
    await made.close()


@pytest.fixture
async def channel(tmp_path: Path, worker: FakeWorker) -> AsyncIterator[InProcessChannel]:
    folder = tmp_path / "model"
    folder.mkdir()
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    description(vocabulary_size=len(WORDS), max_tokens=8, default_max_length=8).save(folder)
    seal(folder)
    limits = Limits(64, 1 << 20, 1 << 20, 1 << 20, 128, 1000, 1 << 20, 8)
    frontend = FrontendSettings("frontend", "h", 1, "v", (), limits, 1, 0.5, 5.0, "info")
    versions = Versions(frontend, ThreadPoolExecutor(1), lambda: None)
    await versions.serve([ModelSettings("m", str(folder), (str(worker.path),), 10_000)])
    yield channel_to(versions.models, "9.9")
    await versions.close()


@pytest.fixture
def client(channel: InProcessChannel) -> AsyncClient:
    return AsyncClient(channel=channel)


async def test_vectors_come_back_in_order(client: AsyncClient) -> None:
    vectors = await client.encode(["w3 w1", "w7", "w2"])
    assert vectors.tolist() == [[3.0], [7.0], [2.0]]
    assert await client.server_version() == "9.9"


async def test_a_stream_longer_than_its_window_is_answered_whole(client: AsyncClient) -> None:
    numbers = [1 + number % 49 for number in range(1000)]
    batches = [batch async for batch in client.encode_stream(f"w{number}" for number in numbers)]
    assert np.concatenate([batch.vectors for batch in batches])[:, 0].tolist() == numbers


async def test_items_fail_alone_and_by_the_server(client: AsyncClient) -> None:
    texts = ["w1", "w1 " * 9, "w2"]
    batches = [
        batch async for batch in client.encode_stream(texts, on_error="collect", truncation="refuse", batch_size=8)
    ]
    (failure,) = [failure for batch in batches for failure in batch.errors]
    assert failure.id == 1
    assert isinstance(failure.error, InvalidArgument)
    assert failure.error.request_id


async def test_an_error_has_its_details(client: AsyncClient) -> None:
    with pytest.raises(NotFound) as caught:
        await client.encode("w1", model="other")
    assert (caught.value.reason, caught.value.metadata) == ("MODEL_NOT_FOUND", {"models": "m"})
    assert caught.value.request_id
    with pytest.raises(NotFound):
        [batch async for batch in client.encode_stream(["w1"], model="other")]


async def test_models_stay_as_they_are(client: AsyncClient) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        await client.load_model("n", "somewhere")
    assert caught.value.reason == "LOADING_NOT_ALLOWED"


async def test_a_call_without_time_left_ends(client: AsyncClient, worker: FakeWorker) -> None:
    await client.model()
    worker.answer = lambda _: None
    with pytest.raises(DeadlineExceeded):
        await client.encode("w1", timeout=0.05)
    with pytest.raises(DeadlineExceeded):
        [batch async for batch in client.encode_stream(["w1"], timeout=0.05)]


async def test_a_stream_that_is_left_is_cancelled_at_the_worker(client: AsyncClient, worker: FakeWorker) -> None:
    worker.answer = lambda _: None
    stream = client.encode_stream(["w1"])
    reading = asyncio.create_task(anext(stream))
    await worker.wait_for(1)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await stream.aclose()
    await until(lambda: worker.cancelled == [worker.works[0].id])


async def test_a_missing_method_is_refused(channel: InProcessChannel) -> None:
    rpc: Any = channel.unary_unary("/no.Service/Method")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rpc(b"", timeout=60.0)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_call_that_is_cancelled_before_it_begins_says_so(channel: InProcessChannel) -> None:
    rpc: Any = channel.stream_stream("/bertstream.v1.EncodingService/StreamEncodings")
    call, ended = rpc(), list[Any]()
    call.add_done_callback(ended.append)
    assert call.cancel()
    assert await call.code() is grpc.StatusCode.CANCELLED
    assert call.cancelled()
    assert ended == [call]
    with pytest.raises(asyncio.InvalidStateError):
        await call.write(object())
