"""Several frontend processes on one port share the calls, agree on the models, and are replaced one by one."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import psutil
import pytest

from bertstream.client import Aborted, Client, Health, NotFound, RpcError
from bertstream.workers.compile.compiler import compile_model
from tests.support.programs import plant_faults
from tests.support.server import WAITING, Server, eventually, running

HANGS_ON = 40  # a token id
NAMES = ["frontend-0", "frontend-1"]
IDS = [[5 + index % 30, *[60] * (index % 40)] for index in range(6000)]


@pytest.fixture(scope="module")
def root(checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("roots")
    shutil.copytree(checkpoint("roberta"), made / "roberta")
    shutil.copytree(checkpoint("bert-cased"), made / "bert-cased")
    return made


@pytest.fixture(scope="module")
def server(
    checkpoint: Callable[[str], Path],
    new_cache: Callable[[Path], Path],
    root: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    """Yield a server with two frontends, and two workers of a tiny model that hangs on a token, in its own cache."""
    cache = new_cache(tmp_path_factory.mktemp("frontends") / "cache")
    plant_faults(compile_model(checkpoint("bert"), cache=cache), hangs_on=HANGS_ON, fails_on=-1)
    # Calls have time to end on a machine with much else to do.
    more = ("--drain-seconds", "240", *WAITING, "--log-level", "debug")
    options = ("--frontends", "2", "--workers", "2", "--threads", "1", "--batch-seconds", "2", *more)
    environment = {"BERTSTREAM_MODEL_ROOTS": str(root)}
    with running([f"tiny={checkpoint('bert')}"], *options, cache=cache, environment=environment) as started:
        yield started


def frontends(server: Server) -> list[psutil.Process]:
    return server.children("bertstream.server.frontend.process")


def answered_by(server: Server, request_id: str) -> list[str]:
    """Return the frontends that have answered calls of this request id, by their logs."""
    lines = [json.loads(line) for line in list(server.log) if f'"{request_id}"' in line]
    return [line["process"] for line in lines]


class Caller:
    """A client with one connection and no retries, and the frontend that has the connection."""

    def __init__(self, server: Server) -> None:
        self._server = server
        # The channel needs arguments of its own, since gRPC lets channels with the same ones share a connection.
        options = {"max_message_bytes": next(_SIZES), "retries": 0, "reconnect_seconds": 0}
        self._id = uuid.uuid4().hex
        self.client = Client(server.address, channels=1, metadata=[("x-request-id", self._id)], **options)  # type: ignore[arg-type]

    @property
    def frontend(self) -> str:
        """Return the name of the frontend, once it has answered another call."""
        known = len(answered_by(self._server, self._id))
        self.client.server_version()
        eventually(lambda: len(answered_by(self._server, self._id)) > known, "the call to be logged")
        return answered_by(self._server, self._id)[-1]


_SIZES = itertools.count(1 << 26)


@pytest.fixture
def callers(server: Server) -> Iterator[list[Caller]]:
    """Yield a caller of each frontend; chance decides which one gets a connection, so enough are opened."""
    eventually(lambda: len(frontends(server)) == 2, "both frontends")
    with ExitStack() as stack:
        found: dict[str, Caller] = {}

        def both() -> bool:
            caller = Caller(server)
            stack.enter_context(caller.client)
            found.setdefault(caller.frontend, caller)
            return len(found) == 2

        eventually(both, "a connection to each frontend")
        yield [found[name] for name in NAMES]


def test_the_ready_line_says_how_many_there_are(server: Server) -> None:
    assert server.ready_line.count("ready on") == 1
    assert " | 2 frontends | " in server.ready_line
    assert len(frontends(server)) == 2


def test_a_client_with_several_channels_uses_all_frontends(server: Server) -> None:
    """Open each stream while the others are open, so that each has a channel of its own."""
    request_id = uuid.uuid4().hex
    with Client(server.address, channels=32, metadata=[("x-request-id", request_id)]) as client:
        streams = [client.encode_stream(itertools.repeat([5, 6])) for _ in range(32)]
        for stream in streams:
            next(stream)
        for stream in streams:
            stream.close()
        eventually(lambda: len(answered_by(server, request_id)) > 32, "all streams to end")
    counts = Counter(answered_by(server, request_id))
    assert sorted(counts) == NAMES
    assert min(counts.values()) >= 2, counts  # chance gives fewer in 1 of 60 million runs


def test_both_use_all_workers_and_agree(callers: list[Caller], server: Server) -> None:
    one, other = (caller.client.encode(IDS[:300]) for caller in callers)
    np.testing.assert_allclose(one, other, atol=1e-5)
    assert [caller.client.model().live_workers for caller in callers] == [2, 2]
    connected = [line for line in server.log if '"connected to worker-0-' in line]
    assert {name for name in NAMES for line in connected if name in line} == set(NAMES)


def test_calls_of_both_at_once_get_their_own_answers(callers: list[Caller]) -> None:
    expected = callers[0].client.encode(IDS[:64])
    wrong: list[int] = []

    def call(index: int) -> None:
        answers = [callers[index % 2].client.encode([IDS[index]])[0] for _ in range(10)]
        wrong.extend(index for answer in answers if not np.allclose(answer, expected[index], atol=1e-5))

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(call, range(64)))
    assert wrong == []


def test_a_model_is_there_for_all_when_its_load_is_answered_and_gone_likewise(callers: list[Caller]) -> None:
    one, other = (caller.client for caller in callers)
    loaded = one.load_model("second", "roberta", workers=1)
    assert [model.name for model in other.models()] == ["tiny", "second"]
    assert other.health("models/second") is Health.SERVING
    found, same = (client.encode(["a b", "c"], model="second") for client in (one, other))
    np.testing.assert_allclose(found, same, atol=1e-5)
    replaced = other.load_model("second", "bert-cased", workers=1)
    assert replaced.revision != loaded.revision
    assert one.model("second").revision == other.model("second").revision == replaced.revision
    one.unload_model("second")
    assert other.health("models/second") is Health.SERVICE_UNKNOWN
    with pytest.raises(NotFound):
        other.encode(["a"], model="second")


def until(ended: threading.Event) -> Iterator[list[int]]:
    """Yield the same text again and again."""
    while not ended.is_set():
        yield [5, 6]


def test_a_replaced_version_lives_until_the_calls_of_all_frontends_are_done(
    callers: list[Caller], server: Server
) -> None:
    kept = set(server.workers)
    callers[0].client.load_model("second", "roberta", workers=1)
    (old,) = set(server.workers) - kept
    ends = [threading.Event() for _ in callers]
    streams = [
        caller.client.encode_stream(until(ended), model="second", batch_size=16)
        for caller, ended in zip(callers, ends, strict=True)
    ]
    before = [next(stream).vectors[0] for stream in streams]
    callers[1].client.load_model("second", "bert-cased", workers=1)
    for stream, vector, ended in zip(streams, before, ends, strict=True):
        for batch in itertools.islice(stream, 300):
            np.testing.assert_allclose(batch.vectors[0], vector, atol=1e-5)
        assert old.is_running()
        ended.set()
        assert all(not batch.errors for batch in stream)
    eventually(lambda: old not in server.workers, "the old version's worker to go")
    callers[1].client.unload_model("second")
    eventually(lambda: len(server.workers) == 2, "the new version's worker to go")


@pytest.mark.slow
def test_an_input_that_kills_workers_harms_nobody_at_the_other_frontend(callers: list[Caller], server: Server) -> None:
    """Send it beside work of the other frontend that has the same numbers and is in the same batches."""
    poisoned, healthy = (caller.client for caller in callers)
    expected = healthy.encode(IDS[:3000])
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(poisoned.encode, [[5, HANGS_ON]], timeout=240)
        rows, rounds = np.zeros_like(expected), 0
        while not call.done():
            for batch in healthy.encode_stream(IDS[:3000], batch_size=50):
                assert batch.errors == []
                rows[batch.ids] = batch.vectors
            np.testing.assert_allclose(rows, expected, atol=1e-5)
            rounds += 1
        with pytest.raises(Aborted) as caught:
            call.result()
    assert caught.value.reason == "POISONOUS_INPUT"
    assert rounds > 0
    eventually(lambda: healthy.model().live_workers == 2, "two live workers")


def test_killing_frontends_during_a_stream_loses_nothing(server: Server, callers: list[Caller]) -> None:
    expected = callers[0].client.encode(IDS[:200])
    before = {process.pid for process in frontends(server)}
    seen: list[int] = []
    with Client(server.address) as client:
        for number, batch in enumerate(client.encode_stream(IDS, batch_size=50)):
            if number in (5, 60):  # first one frontend, then the other: the stream is on one of them
                victim = next(each for each in frontends(server) if each.pid in before)
                victim.kill()
                victim.wait(20)
                eventually(lambda: len(frontends(server)) == 2, "another in its place")
            if batch.ids[0] < 200:
                np.testing.assert_allclose(batch.vectors, expected[batch.ids], atol=1e-5)
            seen.extend(batch.ids.tolist())
    assert seen == list(range(len(IDS)))
    assert not before & {process.pid for process in frontends(server)}


def test_one_that_dies_is_replaced_while_the_other_goes_on(server: Server, callers: list[Caller]) -> None:
    """Kill one frontend: its callers come back by themselves, and those of the other notice nothing."""
    victim, other = callers
    victim.client.load_model("second", "roberta", workers=1)
    (process,) = (each for each in frontends(server) if victim.frontend in each.cmdline())
    process.kill()
    process.wait(20)
    for _ in range(20):  # the client has no retries
        assert other.client.encode(IDS[:3], model="second").shape == (3, 36)
    assert other.client.health() is Health.SERVING
    eventually(lambda: _answers(victim.client), "the caller to get an answer again")
    eventually(lambda: len(frontends(server)) == 2, "another in its place")
    other.client.unload_model("second")


def test_the_next_life_of_one_begins_with_what_was_loaded(server: Server, callers: list[Caller]) -> None:
    """Load a model while a frontend is being replaced, which the load waits for."""
    victim = frontends(server)[0]
    victim.kill()
    victim.wait(20)
    with Client(server.address) as client:
        client.load_model("second", "roberta", workers=1)
    pids = {process.pid for process in frontends(server)}
    assert len(pids) == 2
    for name in NAMES:
        found: Caller | None = None
        while found is None:
            caller = Caller(server)
            with caller.client:
                assert [model.name for model in caller.client.models()] == ["tiny", "second"]
                found = caller if caller.frontend == name else None
    assert pids == {process.pid for process in frontends(server)}
    with Client(server.address) as client:
        client.unload_model("second")


def _answers(client: Client) -> bool:
    try:
        return client.encode(IDS[:3], timeout=5).shape == (3, 36)
    except RpcError:
        return False


def test_stopping_drains_all_and_leaves_no_process(server: Server, callers: list[Caller]) -> None:
    """Stop the server that all tests use, in the last of them."""
    family = [psutil.Process(server.process.pid), *server.children()]
    assert len(family) >= 5
    barrier = threading.Barrier(3)

    def read(caller: Caller) -> list[int]:
        got: list[int] = []
        for number, batch in enumerate(caller.client.encode_stream(IDS * 2, batch_size=50)):
            if number == 3:
                barrier.wait(60)
            got.extend(batch.ids.tolist())
        return got

    with ThreadPoolExecutor(2) as pool:
        reading = [pool.submit(read, caller) for caller in callers]
        barrier.wait(60)
        assert server.stop(signal.SIGTERM, 240) == 0
        assert all(each.result(60) == list(range(2 * len(IDS))) for each in reading)
    eventually(lambda: not any(process.is_running() for process in family), "every process to be gone")
