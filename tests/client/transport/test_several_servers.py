"""One client of several servers, of which some are lost, drain or come back."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from bertstream.cli import main
from bertstream.client import AsyncClient, Client, Health, Overloaded, Unavailable
from tests.client.fake_server import DRAINING_SECONDS, Code, FakeServer, status
from tests.client.fake_status import PATIENCE
from tests.support.ports import held_port

GONE = "127.0.0.1:1"  # where nobody listens
METHODS: dict[str, Callable[[Any], Any]] = {
    "encode": lambda client: client.encode(["a b"]),
    "encode_stream": lambda client: list(client.encode_stream(["a b"] * 20)),
    "stream_layers": lambda client: list(client.stream_layers(["a b"])),
    "generate": lambda client: client.generate(["a b"]),
    "stream_generate": lambda client: list(client.stream_generate("a b")),
    "models": lambda client: client.models(),
    "health": lambda client: client.health(),
}


@pytest.fixture
def client(servers: tuple[FakeServer, FakeServer], connect: Callable[..., Any]) -> Any:
    return connect([each.address for each in servers])


def within(seconds: float, condition: Callable[[], object]) -> bool:
    """Return whether the condition holds within a time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def test_calls_are_shared(servers: tuple[FakeServer, FakeServer], client: Any) -> None:
    for _ in range(10):
        client.encode(["a"])
    assert [each.seen.rpcs["EncodeTexts"] for each in servers] == [5, 5]


def test_what_is_under_way_counts(servers: tuple[FakeServer, FakeServer], connect: Callable[..., Any]) -> None:
    """Have one server hold a call, so that all others go to the other one."""
    gates = [threading.Event(), threading.Event()]
    for each, gate in zip(servers, gates, strict=True):
        each.does.stall = gate
    with Client(",".join(each.address for each in servers)) as client:
        held = threading.Thread(target=client.encode, args=[["a"]])
        held.start()
        assert within(PATIENCE, lambda: any(each.seen.rpcs["EncodeTexts"] for each in servers))
        busy = next(index for index, each in enumerate(servers) if each.seen.rpcs["EncodeTexts"])
        gates[1 - busy].set()
        for _ in range(6):
            client.encode(["a"])
        assert [each.seen.rpcs["EncodeTexts"] for each in (servers[busy], servers[1 - busy])] == [1, 6]
        gates[busy].set()
        held.join()


@pytest.mark.parametrize("method", METHODS)
def test_one_of_them_is_enough(server: FakeServer, connect: Callable[..., Any], method: str) -> None:
    alone = connect(server.address)
    for _ in range(4):  # since a client begins with any of them
        outcome = METHODS[method](connect(f"{GONE},{server.address}"))
        assert repr(outcome) == repr(METHODS[method](alone)) or method.startswith(("encode_s", "stream"))


@pytest.mark.parametrize("method", METHODS)
def test_a_server_that_drains_gets_no_more_calls(
    servers: tuple[FakeServer, FakeServer], client: Any, method: str
) -> None:
    servers[0].does.draining = True
    began = time.monotonic()
    for _ in range(8):
        METHODS[method](client)
    refused = servers[0].seen.rpcs.total() - servers[0].seen.rpcs["Check"]
    assert refused <= 1
    # The time that a draining server asks for, which another need not wait for.
    assert time.monotonic() - began < DRAINING_SECONDS


def test_a_server_that_is_back_gets_its_share(server: FakeServer, connect: Callable[..., Any]) -> None:
    with held_port() as port:  # where there is none yet
        client = connect([f"127.0.0.1:{port}", server.address])
        for _ in range(5):
            client.encode(["a"])
        assert server.seen.rpcs["EncodeTexts"] == 5
        again = FakeServer(port)
        try:

            def served() -> bool:
                client.encode(["a"])
                return again.seen.rpcs["EncodeTexts"] > 1

            assert within(PATIENCE, served)
        finally:
            again.close()


def test_where_all_are_gone_the_error_names_each(connect: Callable[..., Any]) -> None:
    client = connect([GONE, "127.0.0.1:2"], retries=0)
    with pytest.raises(Unavailable) as raised:
        client.encode(["a"])
    error = raised.value
    assert error.reason == "NO_SERVER"
    assert str(error).startswith("none of 2 servers takes calls: 127.0.0.1:1: failed to connect")
    assert "; 127.0.0.1:2: failed to connect" in str(error)


def test_where_all_drain_the_error_says_so(servers: tuple[FakeServer, FakeServer], connect: Callable[..., Any]) -> None:
    for each in servers:
        each.does.draining = True
    with pytest.raises(Unavailable, match="none of 2 servers takes calls") as raised:
        connect([each.address for each in servers], retries=0).encode(["a"])
    assert (raised.value.reason, raised.value.retry_after) == ("DRAINING", DRAINING_SECONDS)


def test_all_that_come_back_in_time_are_no_error(servers: tuple[FakeServer, FakeServer], client: Any) -> None:
    lost = status(Code.UNAVAILABLE, "lost")
    for each in servers:
        each.does.failures.extend([lost] * 3)
    assert client.encode(["a"]).shape[0] == 1


def test_an_overloaded_server_is_not_asked_again_where_another_has_room(
    servers: tuple[FakeServer, FakeServer], client: Any
) -> None:
    first, second = servers
    first.does.failures.extend([status(Code.RESOURCE_EXHAUSTED, "full", "OVERLOADED", retry_seconds=60.0)] * 100)
    began = time.monotonic()
    for _ in range(8):
        client.encode(["a"])
    assert second.seen.rpcs["EncodeTexts"] == 8
    asked = first.seen.rpcs["EncodeTexts"]
    assert asked <= 1 + (time.monotonic() - began)  # once a second at most


def test_where_no_time_is_left_to_wait_the_error_says_why(servers: tuple[FakeServer, FakeServer], client: Any) -> None:
    for each in servers:
        each.does.failures.extend([status(Code.RESOURCE_EXHAUSTED, "full", "OVERLOADED", retry_seconds=60.0)] * 100)
    with pytest.raises(Overloaded, match="full"):
        client.encode(["a"], timeout=30)


def test_a_stream_goes_on_at_another_server(servers: tuple[FakeServer, FakeServer], client: Any) -> None:
    for each in servers:
        each.does.breaks.append((4, status(Code.UNAVAILABLE, "Socket closed")))
    ids = [index for batch in client.encode_stream(["a"] * 50, batch_size=4) for index in batch.ids]
    assert ids == list(range(50))
    assert all(each.seen.rpcs["StreamEncodings"] for each in servers)


def test_a_server_that_does_not_answer_at_all_is_left_out(server: FakeServer) -> None:
    """Have one server take connections and say nothing, as a host that hangs does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        silent = f"127.0.0.1:{listener.getsockname()[1]}"
        with Client([silent, server.address], timeout=60) as client:
            began = time.monotonic()
            for _ in range(10):
                client.encode(["a"])
            # Each call that the silent one got would take five seconds, and it would get each second one.
            assert time.monotonic() - began < 20


def test_grpc_shares_calls_between_the_servers_of_one_target(
    servers: tuple[FakeServer, FakeServer], connect: Callable[..., Any]
) -> None:
    client = connect("ipv4:" + ",".join(each.address for each in servers), channels=1)

    def answered() -> list[int]:
        client.encode(["a"])
        return [each.seen.rpcs["EncodeTexts"] for each in servers]

    assert within(PATIENCE, lambda: min(answered()) > 0)  # the first ones come before all are connected
    before = answered()
    for _ in range(10):
        after = answered()
    assert [now - then for now, then in zip(after, before, strict=True)] == [5, 5]


def test_a_target_whose_servers_keep_their_health_to_themselves_is_told_of(
    servers: tuple[FakeServer, FakeServer], connect: Callable[..., Any]
) -> None:
    for each in servers:
        each.does.health_needs_key = True
    addresses = ",".join(each.address for each in servers)
    with pytest.raises(Unavailable, match=r"without a key.*\(open_health\), or name each") as raised:
        connect(f"ipv4:{addresses}", retries=0).encode(["a"])
    assert raised.value.reason == "HEALTH_CLOSED"
    connect(addresses, retries=0).encode(["a"])


@pytest.mark.parametrize("change", ["load_model", "unload_model"])
def test_what_changes_one_server_is_not_for_several(client: Any, change: str, connect: Any) -> None:
    arguments = ("name", "source") if change == "load_model" else ("name",)
    for each in (client, connect("ipv4:127.0.0.1:1,127.0.0.1:2")):
        with pytest.raises(ValueError, match="changes one server, and this client has several: make a client for one"):
            getattr(each, change)(*arguments)


def test_a_key_goes_to_none_of_several_in_plain_text() -> None:
    with pytest.raises(ValueError, match=r"go to example\.com:1 in plain text"):
        AsyncClient(["127.0.0.1:1", "example.com:1"], api_key="secret")


def test_the_command_line_takes_several(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["health", "--address", f"{GONE},{server.address}"]) == 0
    monkeypatch.setenv("BERTSTREAM_ADDRESS", f"{server.address}, {GONE}")
    assert main(["health"]) == 0
    assert capsys.readouterr().out == f"{Health.SERVING.name}\n" * 2
    assert main(["health", "--address", f"{GONE},127.0.0.1:2"]) == 3
    assert capsys.readouterr().err.startswith("bertstream: error: none of 2 servers takes calls: 127.0.0.1:1: failed")
