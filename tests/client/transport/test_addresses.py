"""Which addresses are valid, and which of them are reached through a proxy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bertstream.cli import main
from bertstream.client import AsyncClient, Client, DeadlineExceeded, Unavailable
from bertstream.client._transport.addresses import (
    PROXY_VARIABLES,
    check_address,
    is_local,
    may_be_several,
    proxy_of,
    servers_of,
)
from tests.client.fake_server import FakeServer
from tests.client.proxy import Proxy

GOOD = [
    "127.0.0.1:50051",
    "localhost:1",
    "example.com:65535",
    "a_b-c.svc.cluster.local.:443",
    "[::1]:50051",
    "[fe80::1%eth0]:50051",
    "dns:localhost:50051",
    "dns:///localhost:50051",
    "dns://8.8.8.8/example.com:50051",
    "ipv4:127.0.0.1:50051",
    "ipv4:10.0.0.1:50051,10.0.0.2:50051",
    "ipv6:[::1]:50051",
    "ipv6:%5B::1%5D:50051",
    "unix:/run/bertstream.sock",
    "unix:relative.sock",
    "unix:///run/bertstream.sock",
    "unix-abstract:bertstream",
    "xds:///bertstream",
]
BAD = [
    ("", "address is empty; say host:port"),
    (" ", "has a space in it"),
    ("localhost", "has no port, as in localhost:50051"),
    ("localhost:", "has no port, as in localhost:50051"),
    ("dns:///localhost", "has no port"),
    ("ipv4:127.0.0.1", "has no port"),
    ("[::1]", r"has no port, as in \[::1\]:50051"),
    ("::1", r"an IPv6 address stands in brackets, as in \[::1\]:50051"),
    ("host:1:extra", "has more than one port"),
    ("host:99999", "not a number from 1 to 65535"),
    ("host:0", "not a number from 1 to 65535"),
    ("host:-1", "not a number from 1 to 65535"),
    ("host:http", "not a number from 1 to 65535"),
    ("host:50051/v1", "not a number from 1 to 65535"),
    (":50051", "has no host"),
    ("[]:50051", "has no host"),
    ("[host]:50051", "has no host"),
    ("ho st:1", "has a space in it"),
    ("host:1 ", "has a space in it"),
    ("host:1\n", "has a space in it"),
    ("ipv4:127.0.0.1:1,127.0.0.1", "has no port"),
    ("http://host:1", "must be without http://: host:1"),
    ("https://host:1/", "must be without https://; for TLS say tls=True: host:1"),
    ("grpc://host:1", "must be without grpc://: host:1"),
    ("http://", "has no host"),
    ("unix:", "has nothing behind unix:"),
]


@pytest.mark.parametrize("address", GOOD)
def test_addresses(address: str) -> None:
    check_address(address)
    Client(address).close()


@pytest.mark.parametrize(
    ("address", "servers"),
    [
        ("a:1", ("a:1",)),
        ("a:1,b:2, [::1]:3", ("a:1", "b:2", "[::1]:3")),
        ("a:1,unix:/run/b.sock", ("a:1", "unix:/run/b.sock")),
        ("dns:///a:1,dns:///b:1", ("dns:///a:1", "dns:///b:1")),
        (["a:1", "ipv4:10.0.0.1:1,10.0.0.2:1"], ("a:1", "ipv4:10.0.0.1:1,10.0.0.2:1")),
        ("ipv4:10.0.0.1:1,10.0.0.2:1", ("ipv4:10.0.0.1:1,10.0.0.2:1",)),
        ("unix:/run/a,b.sock", ("unix:/run/a,b.sock",)),
    ],
)
def test_the_servers_of_an_address(address: str | list[str], servers: tuple[str, ...]) -> None:
    assert servers_of(address) == servers
    Client(address).close()


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("a,b:1", "address 'a' has no port, as in a:50051"),
        ("a:1,", "address is empty"),
        ("a:1,,b:1", "address is empty"),
        ("a:1,me:secret@b:1", "address must be without a user and a password"),
        ("a:1,b:1,a:1", "address has 'a:1' more than once"),
        ([], "address has no server in it"),
    ],
)
def test_servers_that_cannot_be_meant(address: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Client(address)


@pytest.mark.parametrize("address", [None, 50051, b"a:1", {"a:1"}, ["a:1", 2]])
def test_what_is_no_address(address: Any) -> None:
    with pytest.raises(TypeError, match="address must be a str"):
        AsyncClient(address)


@pytest.mark.parametrize(
    ("address", "several"),
    [
        ("dns:///example.com:1", True),
        ("dns://127.0.0.1:53/example.com:1", True),
        ("ipv4:127.0.0.1:1,127.0.0.1:2", True),
        ("ipv4:127.0.0.1:1", False),
        ("example.com:1", False),
        ("dns:///localhost:1", False),
        ("dns:///10.0.0.1:1", False),
        ("unix:/run/a,b", False),
        ("xds:///a", False),
    ],
)
def test_the_addresses_behind_which_there_may_be_several_servers(address: str, several: bool) -> None:
    assert may_be_several(address) is several


@pytest.mark.parametrize(("address", "why"), BAD)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_addresses_that_cannot_be_meant(kind: Any, address: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as raised:
        kind(address)
    assert repr(address) in str(raised.value) or not address
    assert "\n" not in str(raised.value)


def test_a_password_is_not_shown() -> None:
    for address in ("http://me:secret@host:1", "me:secret@host:1", "dns:///me:secret@host:1"):
        with pytest.raises(ValueError, match="without a user and a password") as raised:
            Client(address)
        assert "secret" not in str(raised.value)


@pytest.mark.parametrize("address", ["", "host:99999", "http://host:1"])
def test_the_command_line_says_so(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["health", "--address", address]) == 2
    error = capsys.readouterr().err
    assert error.startswith("bertstream: error: address")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:1",
        "127.9.8.7:1",
        "127.1:1",
        "0.0.0.0:1",
        "localhost:1",
        "LocalHost.:1",
        "model.localhost:1",
        "[::1]:1",
        "[::]:1",
        "[::ffff:127.0.0.1]:1",
        "dns:localhost:1",
        "dns:///localhost:1",
        "dns://8.8.8.8/localhost:1",
        "ipv4:127.0.0.1:1",
        "ipv4:127.0.0.1:1,127.0.0.2:1",
        "ipv6:[::1]:1",
        "ipv6:%5B::1%5D:1",
        "unix:/run/a.sock",
        "unix-abstract:a",
    ],
)
def test_addresses_of_this_machine(address: str, no_proxies: pytest.MonkeyPatch) -> None:
    no_proxies.setenv("http_proxy", "http://proxy:3128")
    assert is_local(address)
    assert proxy_of(address) == ""


OTHERS = ["example.com:1", "10.0.0.1:1", "127.example.com:1", "notlocalhost:1", "[fe80::1]:1"]


@pytest.mark.parametrize("address", OTHERS)
def test_addresses_of_other_machines(address: str, no_proxies: pytest.MonkeyPatch) -> None:
    no_proxies.setenv("http_proxy", "http://proxy:3128")
    assert not is_local(address)
    assert proxy_of(address) == "proxy:3128"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ""),
        ({"http_proxy": "http://c:3"}, "c:3"),
        ({"https_proxy": "http://b:2", "http_proxy": "http://c:3"}, "b:2"),
        ({"grpc_proxy": "http://a:1", "https_proxy": "http://b:2", "http_proxy": "http://c:3"}, "a:1"),
        ({"grpc_proxy": "", "http_proxy": "http://c:3"}, ""),
        ({"http_proxy": "http://me:secret@c:3"}, "c:3"),
        ({"http_proxy": "socks5://c:3"}, ""),
        ({"http_proxy": "c:3"}, ""),
        ({"http_proxy": "http://[c:3"}, ""),
        ({"http_proxy": "http://c:3", "no_proxy": "other.org, example.com"}, ""),
        ({"http_proxy": "http://c:3", "no_proxy": "other.org"}, "c:3"),
        ({"http_proxy": "http://c:3", "no_proxy": "example.com", "no_grpc_proxy": "other.org"}, "c:3"),
    ],
)
def test_the_proxy_of_an_address(no_proxies: pytest.MonkeyPatch, environment: dict[str, str], expected: str) -> None:
    for name, value in environment.items():
        no_proxies.setenv(name, value)
    assert proxy_of("api.example.com:50051") == expected


def test_networks_without_a_proxy(no_proxies: pytest.MonkeyPatch) -> None:
    no_proxies.setenv("http_proxy", "http://c:3")
    no_proxies.setenv("no_proxy", "10.0.0.0/8")
    assert proxy_of("10.1.2.3:1") == ""
    assert proxy_of("11.1.2.3:1") == "c:3"


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Return an environment that names no proxy."""
    for name in (*PROXY_VARIABLES, "no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
def proxies() -> Iterator[Callable[[int | None], Proxy]]:
    """Make proxies, and close them."""
    made: list[Proxy] = []

    def make(port: int | None) -> Proxy:
        made.append(Proxy(port))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "localhost:{}", "dns:///localhost:{}", "ipv4:127.0.0.1:{}"])
@pytest.mark.parametrize("variable", PROXY_VARIABLES)
def test_this_machine_is_reached_without_a_proxy(
    server: FakeServer, connect: Any, proxies: Any, no_proxies: pytest.MonkeyPatch, form: str, variable: str
) -> None:
    refusing = proxies(None)
    no_proxies.setenv(variable, f"http://{refusing.address}")
    client = connect(form.format(server.port), retries=0)
    assert client.health().name == "SERVING"
    assert sum(len(batch.ids) for batch in client.encode_stream(["a"] * 3)) == 3
    assert refusing.asked == []


def test_another_machine_is_reached_through_the_proxy(
    server: FakeServer, connect: Any, proxies: Any, no_proxies: pytest.MonkeyPatch
) -> None:
    proxy = proxies(server.port)
    no_proxies.setenv("http_proxy", f"http://{proxy.address}")
    assert connect("models.example.com:50051", retries=0).health().name == "SERVING"
    assert proxy.asked == ["models.example.com:50051"]


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.health(),
        lambda client: client.encode("a"),
        lambda client: list(client.encode_stream(["a"])),
        lambda client: list(client.stream_layers(["a"])),
    ],
)
def test_an_error_names_the_proxy(connect: Any, proxies: Any, no_proxies: pytest.MonkeyPatch, call: Any) -> None:
    refusing = proxies(None)
    no_proxies.setenv("https_proxy", f"http://me:secret@{refusing.address}")
    client = connect("models.example.com:50051", retries=0, reconnect_seconds=0.1, timeout=20)
    with pytest.raises((Unavailable, DeadlineExceeded)) as raised:
        call(client)
    assert f"(through the proxy {refusing.address}, by the environment)" in str(raised.value)
    assert "secret" not in str(raised.value)
    assert refusing.asked


def test_an_error_of_the_server_does_not_name_the_proxy(
    server: FakeServer, connect: Any, proxies: Any, no_proxies: pytest.MonkeyPatch
) -> None:
    proxy = proxies(server.port)
    no_proxies.setenv("http_proxy", f"http://{proxy.address}")
    with pytest.raises(Exception, match="no model 'other'") as raised:
        connect("models.example.com:50051", retries=0).model("other")
    assert "proxy" not in str(raised.value)
