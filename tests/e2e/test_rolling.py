"""Servers behind one client are restarted one after the other, or get another beside them, and no call is lost."""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
import signal
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from bertstream.client import AsyncClient, Client, GenerationDone
from tests.support.generation_checkpoints import tiny_causal
from tests.support.names import names
from tests.support.server import Server, eventually, running

pytestmark = pytest.mark.slow

OPTIONS = ("--workers", "1", "--threads", "1", "--frontends", "1", "--drain-seconds", "120", "--log-level", "debug")
PATIENCE = 200.0  # seconds, for what takes a few, but longer on a machine with much else to do
TEXTS = [[5 + index % 30, 60, 61] for index in range(600)]  # as token ids
PROMPT, TOKENS = "The quick brown", 60
_CALLER = re.compile(r'"request_id": "(\w+)"')
PAUSE_SECONDS, LONG_PAUSE_SECONDS = 0.05, 0.5  # between the calls of a thread; the long one while a server starts


@pytest.fixture(scope="module")
def models(checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return an encoder and a decoder, to serve both."""
    decoder = tiny_causal(tmp_path_factory.mktemp("rolling") / "bert", "bert")
    return [f"tiny={checkpoint('bert')}", f"writer={decoder}"]


class Load:
    """Calls of all kinds to each of some targets, again and again, whose answers must be those of before."""

    def __init__(self, *targets: str) -> None:
        self.targets = targets
        self.callers: set[str] = set()
        self.done: Counter[tuple[str, str]] = Counter()
        self.failures: list[BaseException] = []
        self._over = threading.Event()
        self._pause = PAUSE_SECONDS
        with Client(targets[0]) as client:
            self._vectors = client.encode(TEXTS, model="tiny")
            self._text = client.generate(PROMPT, model="writer", max_new_tokens=TOKENS).text

    @contextmanager
    def running(self) -> Iterator[None]:
        kinds = (self._unary, self._bulk, self._generate, self._asynchronous)
        calls = [(kind, target) for kind in kinds for target in self.targets]
        threads = [threading.Thread(target=self._repeat, args=call) for call in calls]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join(60)
            assert not any(thread.is_alive() for thread in threads)

    @contextmanager
    def slower(self) -> Iterator[None]:
        """Leave the cores to a server that starts: the longer that takes, the later gRPC looks for it again."""
        self._pause = LONG_PAUSE_SECONDS
        yield
        self._pause = PAUSE_SECONDS

    def all_have_gone_on(self) -> None:
        """Wait until each kind has been answered some more times, at each target."""
        before = self.done.copy()
        kinds = itertools.product(("unary", "bulk", "generation", "asynchronous"), self.targets)
        wanted = {kind: before[kind] + 1 for kind in kinds}
        eventually(
            lambda: self._is_well(all(self.done[kind] > count for kind, count in wanted.items())),
            "more answers",
            PATIENCE,
        )

    def has_reached(self, server: Server) -> None:
        """Wait until each caller has been answered by a server that was just started.

        One that has not found it yet would be without any server when the other goes. Each has a single channel, as
        another one might not have found it.
        """
        eventually(lambda: self._is_well(self.callers <= answered(server)), "the first calls of each caller", PATIENCE)

    def _is_well(self, reached: bool) -> bool:
        assert self.failures == []
        return reached

    def _repeat(self, kind: Callable[[str], None], target: str) -> None:
        try:
            kind(target)
        except BaseException as error:
            self.failures.append(error)

    def _name(self) -> list[tuple[str, str]]:
        """Return the metadata by which the log of a server tells one more caller."""
        name = uuid.uuid4().hex
        self.callers.add(name)
        return [("x-request-id", name)]

    def _unary(self, target: str) -> None:
        with Client(target, channels=1, metadata=self._name()) as client:
            for index in itertools.cycle(range(0, len(TEXTS), 7)):
                vector = client.encode(TEXTS[index : index + 3], model="tiny")
                assert np.allclose(vector, self._vectors[index : index + 3], atol=1e-5)
                self.done["unary", target] += 1
                if self._over.wait(self._pause):
                    return

    def _bulk(self, target: str) -> None:
        with Client(target, channels=1, metadata=self._name()) as client:
            while not self._over.wait(self._pause):
                batches = list(client.encode_stream(slowly(TEXTS), batch_size=16, model="tiny"))
                assert [index for batch in batches for index in batch.ids] == list(range(len(TEXTS)))
                assert np.allclose(np.concatenate([batch.vectors for batch in batches]), self._vectors, atol=1e-5)
                self.done["bulk", target] += 1

    def _generate(self, target: str) -> None:
        with Client(target, channels=1, metadata=self._name()) as client:
            while not self._over.wait(self._pause):
                *pieces, done = client.stream_generate(PROMPT, model="writer", max_new_tokens=TOKENS)
                assert isinstance(done, GenerationDone)
                assert "".join(piece.text for piece in pieces) == done.outputs[0].text == self._text
                self.done["generation", target] += 1

    def _asynchronous(self, target: str) -> None:
        async def call() -> None:
            async with AsyncClient(target, channels=1, metadata=self._name()) as client:
                while not self._over.is_set():
                    vectors, output = await asyncio.gather(
                        client.encode(TEXTS[:100], model="tiny"),
                        client.generate(PROMPT, model="writer", max_new_tokens=TOKENS),
                    )
                    assert np.allclose(vectors, self._vectors[:100], atol=1e-5)
                    assert output.text == self._text
                    self.done["asynchronous", target] += 1
                    await asyncio.sleep(self._pause)

        asyncio.run(call())


def slowly(texts: list[list[int]]) -> Iterator[list[int]]:
    """Yield the texts of a stream that lasts for half a second at least."""
    for index, text in enumerate(texts):
        if index % 30 == 0:
            time.sleep(0.025)
        yield text


def calls(server: Server) -> int:
    """Return how many calls of the services of models a server has answered with OK."""
    return len(_ok(server))


def answered(server: Server) -> set[str]:
    """Return the callers whose calls of those services a server has answered with OK."""
    return {found[1] for line in _ok(server) if (found := _CALLER.search(line))}


def _ok(server: Server) -> list[str]:
    return [line for line in list(server.log) if "bertstream.v1" in line and " OK" in line]


def start(
    stack: ExitStack, models: list[str], cache: Path, port: int, *options: str, host: str = "127.0.0.1"
) -> Server:
    return stack.enter_context(running(models, *OPTIONS, "--host", host, "--port", str(port), *options, cache=cache))


def lasting_port() -> int:
    """Return a free port that the next server can have, too, since the kernel gives it to nobody who asks for any."""
    first_of_those = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = 1024 + secrets.randbelow(first_of_those - 1024)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def port_of(server: Server) -> int:
    return int(server.address.rpartition(":")[2])


def drained(server: Server) -> None:
    """Stop a server, and check that it cut nothing off."""
    assert server.stop(signal.SIGTERM, PATIENCE) == 0
    (stopped,) = server.logged("stopped")
    assert stopped["cut_off"] == 0


@pytest.fixture(scope="module")
def stack() -> Iterator[ExitStack]:
    """Yield what keeps the servers that tests share, and those that replace them, until the last of the tests."""
    with ExitStack() as opened:
        yield opened


@pytest.fixture(scope="module")
def shared(stack: ExitStack, models: list[str], compile_cache: Path) -> list[Server]:
    """Return two servers side by side; who stops one may put the one that replaces it into its place."""
    return [start(stack, models, compile_cache, lasting_port()) for _ in range(2)]


@pytest.fixture
def servers(shared: list[Server], stack: ExitStack, models: list[str], compile_cache: Path) -> list[Server]:
    """Return the two, both of which run."""
    for index, server in enumerate(shared):
        if server.process.poll() is not None:
            shared[index] = start(stack, models, compile_cache, port_of(server))
    return shared


def targets(servers: list[Server]) -> list[str]:
    """Return all ways to name several servers: the SDK balances over a list, and gRPC over what a target stands for."""
    listed = ",".join(server.address for server in servers)
    return [listed, f"ipv4:{listed}"]


def test_a_rolling_restart_loses_no_call(
    servers: list[Server], stack: ExitStack, models: list[str], compile_cache: Path
) -> None:
    load = Load(*targets(servers))
    with load.running():
        for server in servers:
            load.has_reached(server)
        for index, old in enumerate(servers):
            drained(old)
            load.all_have_gone_on()
            with load.slower():
                servers[index] = start(stack, models, compile_cache, port_of(old))
            load.has_reached(servers[index])
            load.all_have_gone_on()
    assert load.failures == []


def test_a_server_that_is_killed_loses_no_call_either(servers: list[Server]) -> None:
    load = Load(*targets(servers))
    with load.running():
        for server in servers:
            load.has_reached(server)
        load.all_have_gone_on()
        for process in servers[0].children("bertstream"):
            process.kill()
        servers[0].process.kill()
        servers[0].process.wait(20)
        load.all_have_gone_on()
    assert load.failures == []


def test_a_stream_that_outlasts_the_drain_goes_on_at_the_other_server(models: list[str], compile_cache: Path) -> None:
    """Stop both servers, one after the other, so that the stream is cut off wherever it is."""
    quick = ("--drain-seconds", "0.2")
    with ExitStack() as stack:
        servers = [start(stack, models[:1], compile_cache, lasting_port(), *quick) for _ in range(2)]
        client = stack.enter_context(Client([server.address for server in servers]))
        expected = client.encode(TEXTS, model="tiny")
        begun, over = threading.Event(), threading.Event()

        def texts() -> Iterator[list[int]]:
            yield from TEXTS[:-1]
            begun.set()
            over.wait(240)
            yield TEXTS[-1]

        with ThreadPoolExecutor(1) as threads:
            stream = threads.submit(lambda: list(client.encode_stream(texts(), batch_size=16, model="tiny")))
            assert begun.wait(60)
            cut_off = 0
            for server in servers:
                assert server.stop(signal.SIGTERM) == 0
                cut_off += server.logged("stopped")[0]["cut_off"]
                if server is servers[0]:  # else there would be none when the other goes
                    start(stack, models[:1], compile_cache, port_of(server), *quick)
            over.set()
            batches = stream.result(60)
    assert [index for batch in batches for index in batch.ids] == list(range(len(TEXTS)))
    assert np.allclose(np.concatenate([batch.vectors for batch in batches]), expected, atol=1e-5)
    # The stream's calls, of which the second is opened where the first is busy as a message comes. Both servers have
    # some where the first had not answered all that was sent.
    assert 1 <= cut_off <= 4


def test_a_server_that_joins_a_name_gets_its_share_and_one_that_leaves_it_loses_no_call(
    models: list[str], compile_cache: Path
) -> None:
    """Look names up anew where connections end by their age, and balance over what they stand for then."""
    with ExitStack() as stack:
        hosts, aged = ["127.0.0.1", "127.0.0.2"], ("--connection-age-seconds", "1")
        servers = [start(stack, models, compile_cache, 0, *aged, host=hosts[0])]
        port = port_of(servers[0])  # which nobody else has at the other host, where few listen
        name = stack.enter_context(names(hosts[:1]))
        load = Load(f"dns://127.0.0.1:{name.port}/bert.test:{port}")
        with load.running():
            load.all_have_gone_on()
            name.addresses = hosts
            with load.slower():
                servers.append(start(stack, models, compile_cache, port, *aged, host=hosts[1]))
            load.has_reached(servers[1])
            before = [calls(server) for server in servers]

            def is_shared() -> bool:
                more = [calls(server) - count for server, count in zip(servers, before, strict=True)]
                return sum(more) > 100 and min(more) > sum(more) / 4

            eventually(is_shared, "the new server to have its share", PATIENCE)
            name.addresses = hosts[1:]
            drained(servers[0])
            load.all_have_gone_on()
        assert load.failures == []
