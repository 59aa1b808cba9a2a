"""Generation goes on where workers die, callers leave or time runs out; and a model of full size generates."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from bertstream.client import AsyncClient, BertstreamError, Client, DeadlineExceeded, GenerationDone
from tests.support.checkpoints import CORPUS
from tests.support.generation_checkpoints import tiny_bert2bert, tiny_causal, transformers_model
from tests.support.hosted import hosted
from tests.support.server import WAITING, Server, answers, eventually, running

PROMPT = "The quick brown"
RECONNECT_SECONDS = 240.0  # for frontends that are killed, each of which may take a minute to start again


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, compile_cache: Path) -> Iterator[Server]:
    """Yield a real server of a decoder with one worker, whose cache holds few tokens."""
    checkpoint = tiny_causal(tmp_path_factory.mktemp("faults") / "bert", "bert")
    options = ("--workers", "1", "--cache-tokens", "4096", *WAITING)
    with running([f"bert={checkpoint}"], *options, cache=compile_cache) as started:
        yield started


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.address) as connected:
        yield connected


@pytest.fixture(autouse=True)
def answering(client: Client) -> None:
    """Begin with a server that answers: a test whose answers had all come may have left its frontends killed."""
    eventually(lambda: answers(client), "the frontends of the test before")


def test_a_killed_worker_loses_no_token_and_repeats_none(server: Server, client: Client) -> None:
    expected = client.generate(PROMPT, max_new_tokens=300)
    sampled = client.generate(PROMPT, max_new_tokens=300, do_sample=True, seed=3)
    streams = [
        client.stream_generate(PROMPT, max_new_tokens=300),
        client.stream_generate(PROMPT, max_new_tokens=300, do_sample=True, seed=3),
    ]
    seen = [[next(stream)] for stream in streams]
    (worker,) = server.workers
    worker.kill()
    for events, stream, whole in zip(seen, streams, (expected, sampled), strict=True):
        events.extend(stream)
        done = events.pop()
        assert isinstance(done, GenerationDone)
        assert [id for event in events for id in event.token_ids] == list(whole.token_ids)
        assert "".join(event.text for event in events) == whole.text == done.outputs[0].text
    eventually(lambda: len(server.workers) == 1, "a new worker")


def kill_frontends(server: Server) -> None:
    """Kill all frontends, while the worker stands still so that no generation is over before."""
    (worker,) = server.workers
    frontends = server.children("bertstream.server.frontend.process")
    worker.suspend()
    try:
        for frontend in frontends:
            frontend.kill()
        eventually(lambda: not any(frontend.is_running() for frontend in frontends), "the end of the frontends")
    finally:
        worker.resume()


@pytest.mark.parametrize("sampled", [{}, {"do_sample": True, "seed": 3}, {"do_sample": True}], ids=str)
def test_a_killed_frontend_loses_no_token_and_repeats_none(server: Server, sampled: dict[str, Any]) -> None:
    """The SDK asks again: with the seed that was drawn, too."""
    with Client(server.address, retries=0, reconnect_seconds=RECONNECT_SECONDS) as client:
        events = client.stream_generate(PROMPT, max_new_tokens=400, **sampled)
        pieces = [next(events)]
        kill_frontends(server)
        *rest, done = events
    pieces += rest
    assert isinstance(done, GenerationDone)
    assert [id for piece in pieces for id in piece.token_ids] == list(done.outputs[0].token_ids)
    assert "".join(piece.text for piece in pieces) == done.outputs[0].text


async def test_an_asynchronous_client_takes_up_what_a_killed_frontend_began(server: Server, client: Client) -> None:
    expected = await asyncio.to_thread(client.generate, PROMPT, max_new_tokens=400)
    async with AsyncClient(server.address, retries=0, reconnect_seconds=RECONNECT_SECONDS) as own:
        events = own.stream_generate(PROMPT, max_new_tokens=400)
        tokens = [*(await anext(events)).token_ids]
        await asyncio.to_thread(kill_frontends, server)
        tokens += [id async for event in events for id in event.token_ids]
    assert tokens == list(expected.token_ids)


def test_a_deadline_ends_a_generation(client: Client) -> None:
    with pytest.raises(DeadlineExceeded):
        client.generate([PROMPT] * 8, max_new_tokens=480, timeout=0.2)
    assert len(client.generate(PROMPT, max_new_tokens=4).token_ids) == 4


def test_more_than_the_cache_holds_at_once_waits_its_turn(client: Client) -> None:
    # 24 x 400 tokens are more than two times the cache.
    prompts = [f"{PROMPT} {i}" for i in range(24)]
    batches = list(client.generate_stream(prompts, max_new_tokens=400))
    assert sum(len(batch.results) for batch in batches) == 24
    assert all(len(result.token_ids) == 400 for batch in batches for result in batch.results)


def test_memory_returns_after_a_thousand_generations_of_which_a_third_are_cancelled(
    server: Server, client: Client
) -> None:
    def one(number: int) -> int:
        if number % 3:
            return len(client.generate(f"{PROMPT} {number}", max_new_tokens=8).token_ids)
        stream = client.stream_generate(f"{PROMPT} {number}", max_new_tokens=400)
        next(stream)
        stream.close()
        return 8

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(one, range(200))) == {8}
        before = server.memory()
        assert set(pool.map(one, range(200, 1200))) == {8}
    # All of the cache is free again: a generation that needs nearly all of it starts at once, and ends.
    assert len(client.generate(PROMPT, max_new_tokens=480, num_beams=8).token_ids) == 480
    assert server.memory() - before < 64 << 20


def test_callers_that_vanish_free_their_rows(server: Server, client: Client) -> None:
    gone = [Client(server.address) for _ in range(6)]
    streams = [each.stream_generate(PROMPT, max_new_tokens=500) for each in gone]
    for stream in streams:
        next(stream)
    closing = [threading.Thread(target=each.close) for each in gone]
    for thread in closing:
        thread.start()
    for thread in closing:
        thread.join()
    for stream in streams:
        with pytest.raises(BertstreamError):
            list(stream)
    assert len(client.generate(PROMPT, max_new_tokens=480, num_beams=8).token_ids) == 480


@pytest.mark.slow
def test_a_wide_bert2bert_generates_as_transformers_does(new_cache: Callable[[Path], Path], tmp_path: Path) -> None:
    """Use as wide a model as the public ones; tests/workers/programs has one that is as deep, too."""
    sizes = {"hidden_size": 768, "num_hidden_layers": 3, "num_attention_heads": 12, "intermediate_size": 3072}
    encoder = {"vocab_size": 30522, **sizes}
    checkpoint = tiny_bert2bert(tmp_path / "model", encoder_sizes=encoder, decoder_sizes=sizes, noise=0.03)
    model = transformers_model(checkpoint)
    with (
        tempfile.TemporaryDirectory() as folder,
        hosted({"full": checkpoint}, new_cache(tmp_path / "cache"), Path(folder)) as address,
        Client(address) as client,
    ):
        texts = [CORPUS[0], CORPUS[2]]
        for beams in (1, 3):
            for text, ours in zip(texts, client.generate(texts, max_new_tokens=8, num_beams=beams), strict=True):
                ids = torch.tensor([client.tokenize(text)[0].token_ids.tolist()])
                with torch.no_grad():
                    theirs = model.generate(ids, max_new_tokens=8, num_beams=beams, do_sample=False)[0].tolist()
                assert list(ours.token_ids) == theirs[1:]
