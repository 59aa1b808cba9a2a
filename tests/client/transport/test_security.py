"""TLS and keys of both clients against a server with certificates, and the errors if they do not fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from bertstream.client import TLS, AsyncClient, Client, InvalidArgument, Unavailable
from bertstream.client._transport.channels import Connection
from bertstream.client._transport.security import Security, security, system_roots
from tests.client.fake_server import FakeServer
from tests.support.certificates import Authority
from tests.support.ports import held_port

KEY = "s3cret-of-mine"
Serve = Callable[..., FakeServer]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def other(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "other")


@pytest.fixture
def serve(authority: Authority) -> Iterator[Serve]:
    """Start a server with a certificate for these hosts; with `ask` it asks clients for theirs."""
    started: list[FakeServer] = []

    def start(*hosts: str, days: tuple[int, int] = (-1, 90), ask: bool = False) -> FakeServer:
        files = authority.issue("server", *hosts, days=days)
        pair = (Path(files.key).read_bytes(), Path(files.certificate).read_bytes())
        roots = authority.path.read_bytes() if ask else None
        started.append(FakeServer(credentials=grpc.ssl_server_credentials([pair], roots, ask)))
        return started[-1]

    yield start
    for each in started:
        each.close()


def failure(client: Any) -> Unavailable:
    with pytest.raises(Unavailable) as raised:
        client.encode(["a"])
    assert "\n" not in str(raised.value)
    return raised.value


def test_a_server_with_a_certificate(serve: Serve, connect: Any, authority: Authority) -> None:
    client = connect(serve().address, tls=TLS(ca=authority.path))
    assert client.encode(["a"]).shape == (1, 8)
    assert sum(len(batch.ids) for batch in client.encode_stream(["a"] * 3)) == 3


def test_the_authorities_of_the_system(
    serve: Serve, connect: Any, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    monkeypatch.delenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", raising=False)
    assert "(--tls-ca)" in str(failure(connect(server.address, tls=True, retries=0)))
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))  # where OpenSSL looks
    assert connect(server.address, tls=True).encode(["a"]).shape == (1, 8)


def test_where_the_authorities_of_the_system_are(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "hashed"
    folder.mkdir()
    (folder / "0a1b2c3d.0").write_bytes(authority.path.read_bytes())
    (folder / "README").write_text("no certificate")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_DIR", str(folder))
    assert system_roots({}) == authority.path.read_bytes()
    assert system_roots({"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": "/a"}) is None
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    assert system_roots({}) is None


def test_another_name_than_the_address_has(serve: Serve, connect: Any, authority: Authority) -> None:
    server = serve("models.example.com")
    error = failure(connect(server.address, tls=TLS(ca=authority.path), retries=0))
    assert error.reason == "TLS_FAILED"
    assert "shows a certificate for another name" in str(error)
    named = TLS(ca=authority.path, server_name="models.example.com")
    assert connect(server.address, tls=named).encode(["a"]).shape == (1, 8)


def test_a_certificate_of_the_client(serve: Serve, connect: Any, authority: Authority, other: Authority) -> None:
    server, plain = serve(ask=True), TLS(ca=authority.path)
    error = failure(connect(server.address, tls=plain, retries=0))
    assert error.reason == "CONNECTION_CLOSED"
    assert "it may want a certificate of this client" in str(error)
    foreign = other.issue("foreign")
    shown = dataclasses.replace(plain, certificate=foreign.certificate, key=foreign.key)
    assert "may not trust the authority" in str(failure(connect(server.address, tls=shown, retries=0)))
    own = authority.issue("client")
    shown = dataclasses.replace(plain, certificate=own.certificate, key=own.key)
    assert connect(server.address, tls=shown).encode(["a"]).shape == (1, 8)


def test_a_plain_client_of_a_server_that_wants_tls(serve: Serve, connect: Any) -> None:
    server = serve()
    error = failure(connect(server.address, retries=0))
    assert error.reason == "CONNECTION_CLOSED"
    assert str(error).startswith(f"the server at {server.address} closed the connection at once")
    assert "it may want TLS: say tls=True (--tls)" in str(error)


def test_a_tls_client_of_a_plain_server(server: FakeServer, connect: Any) -> None:
    error = failure(connect(server.address, tls=True, retries=0))
    assert error.reason == "TLS_FAILED"
    assert str(error) == (
        f"the server at {server.address} does not speak TLS: connect without tls (--no-tls), or have it serve TLS"
    )


@pytest.mark.parametrize(("days", "what"), [((-9, -1), "has expired"), ((1, 9), "is not valid yet")])
def test_a_certificate_at_the_wrong_time(
    serve: Serve, connect: Any, authority: Authority, days: tuple[int, int], what: str
) -> None:
    error = failure(connect(serve(days=days).address, tls=TLS(ca=authority.path), retries=0))
    assert error.reason == "TLS_FAILED"
    assert f"shows a certificate that {what}" in str(error)


def test_an_authority_that_is_not_trusted(serve: Serve, connect: Any, other: Authority) -> None:
    error = failure(connect(serve().address, tls=TLS(ca=other.path), retries=0))
    assert error.reason == "TLS_FAILED"
    assert "of an authority that is not trusted here: give that authority's, TLS(ca=…) (--tls-ca)" in str(error)


def test_where_nobody_listens_it_is_not_for_tls(connect: Any) -> None:
    error = failure(connect("127.0.0.1:1", tls=True, retries=0))
    assert (error.reason, "Connection refused" in str(error)) == ("", True)


def test_streams_say_the_same(serve: Serve, connect: Any) -> None:
    client = connect(serve().address, retries=0, reconnect_seconds=0.1)
    calls: list[Any] = [lambda: list(client.encode_stream(["a"])), lambda: list(client.stream_layers(["a"]))]
    for call in calls:
        with pytest.raises(Unavailable, match="it may want TLS"):
            call()


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tls": True, "credentials": grpc.ssl_channel_credentials()}, "tls or credentials, not both"),
        ({"api_key": "a", "metadata": [("Authorization", "b")]}, "as api_key or in metadata, not both"),
        ({"api_key": ""}, "api_key must be visible ASCII characters"),
        ({"api_key": f"{KEY}\n"}, "api_key must be visible ASCII characters"),
        ({"api_key": f"{KEY} ü"}, "api_key must be visible ASCII characters"),
    ],
)
def test_what_cannot_be_meant(kind: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        kind("127.0.0.1:1", **options)
    assert KEY not in str(raised.value)


@pytest.mark.parametrize("options", [{"tls": "yes"}, {"api_key": b"a"}])
def test_what_is_of_another_type(options: Any) -> None:
    with pytest.raises(TypeError, match="must be a"):
        Client("127.0.0.1:1", **options)


def test_files_that_cannot_be_used(authority: Authority, tmp_path: Path) -> None:
    one, two = authority.issue("one"), authority.issue("two")
    junk = tmp_path / "junk"
    junk.write_text("junk")
    made: dict[str, dict[str, Any]] = {
        f"the ca {tmp_path}/none cannot be read: No such file": {"ca": tmp_path / "none"},
        f"the ca {junk} has no certificate in PEM form": {"ca": junk},
        f"the key {two.key} is not that of the certificate {one.certificate}": {
            "certificate": one.certificate,
            "key": two.key,
        },
        f"the key {junk}, or the certificate {one.certificate}, is not PEM": {
            "certificate": one.certificate,
            "key": junk,
        },
    }
    for message, files in made.items():
        with pytest.raises(ValueError, match=message):
            Client("127.0.0.1:1", tls=TLS(**files))
    halves: list[dict[str, str]] = [{"certificate": "a"}, {"key": "a"}]
    for half in halves:
        with pytest.raises(ValueError, match="certificate and key must be given together"):
            TLS(**half)


def test_a_key_goes_with_every_call(server: FakeServer, connect: Any) -> None:
    client = connect(server.address, api_key=KEY, metadata=[("x-a", "b")])
    calls = (client.health, lambda: client.encode(["a"]), lambda: list(client.encode_stream(["a"])))
    for call in (*calls, lambda: list(client.stream_layers(["a"]))):
        server.seen.metadata.clear()
        call()
        assert server.seen.metadata["authorization"] == f"Bearer {KEY}"
        assert server.seen.metadata["x-a"] == "b"


@pytest.mark.parametrize(
    "address", ["example.com:1", "10.0.0.1:1", "dns:///example.com:1", "ipv4:127.0.0.1:1,10.0.0.1:1"]
)
def test_a_key_goes_to_another_machine_over_tls_alone(address: str, authority: Authority) -> None:
    with pytest.raises(ValueError, match="in plain text") as raised:
        Client(address, api_key=KEY)
    assert KEY not in str(raised.value)
    Client(address, api_key=KEY, tls=TLS(ca=authority.path)).close()
    Client(address, api_key=KEY, credentials=grpc.ssl_channel_credentials()).close()
    Client(address, api_key=KEY, insecure_key=True).close()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "localhost:1", "[::1]:1", "unix:/run/a.sock"])
def test_a_key_may_go_to_this_machine(address: str) -> None:
    Client(address, api_key=KEY).close()


def test_a_key_is_not_shown(connect: Any) -> None:
    made = security(["127.0.0.1:1"], False, None, KEY, False)
    connection = Connection(("127.0.0.1:1",), 1.0, 1, 0, made, (("x-key", KEY),), 1, 1.0)
    assert KEY not in repr(made) + repr(connection)
    assert dict(connection.metadata) == {"x-key": KEY, "authorization": f"Bearer {KEY}"}
    with held_port() as port:  # where nobody listens
        error = failure(connect(f"127.0.0.1:{port}", retries=0, api_key=KEY))
    assert KEY not in str(error) + repr(error) + repr(vars(error))


def test_nothing_given_is_nothing_needed() -> None:
    assert security(["127.0.0.1:1"], False, None, None, False) == Security()


def test_a_target_of_several_servers_explains_tls_too(serve: Any, authority: Any, connect: Any) -> None:
    addresses = ",".join(serve().address for _ in range(2))
    assert failure(connect(f"ipv4:{addresses}", retries=0)).reason == "CONNECTION_CLOSED"
    connect(f"ipv4:{addresses}", tls=TLS(ca=authority.path, server_name="localhost")).encode(["a"])
    connect(addresses, tls=TLS(ca=authority.path)).encode(["a"])


def test_headers_that_are_too_large_are_not_overload(server: FakeServer, connect: Any) -> None:
    client = connect(server.address, metadata=[("x-large", "a" * 100_000)], retries=0)
    with pytest.raises(InvalidArgument, match="metadata of the call is too large") as raised:
        client.encode(["a"])
    assert raised.value.reason == "REQUEST_TOO_LARGE"
