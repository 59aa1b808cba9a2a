"""TLS and keys on the command line: flags, variables, and that keys stay secret."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from bertstream.cli import main
from tests.client.fake_server import FakeServer
from tests.support.certificates import Authority

KEY = "s3cret-of-mine"
NAMES = ("", "_CA", "_CLIENT_CERTIFICATE", "_CLIENT_KEY", "_SERVER_NAME")
Fails = Callable[..., tuple[int, str]]


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*(f"BERTSTREAM_TLS{each}" for each in NAMES), "BERTSTREAM_API_KEY", "BERTSTREAM_INSECURE_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def asking(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """Yield a server with a certificate for another name, which asks clients for theirs."""
    files = authority.issue("server", "models.example.com")
    pair = (Path(files.key).read_bytes(), Path(files.certificate).read_bytes())
    fake = FakeServer(credentials=grpc.ssl_server_credentials([pair], authority.path.read_bytes(), True))
    monkeypatch.setenv("BERTSTREAM_ADDRESS", fake.address)
    yield fake
    fake.close()


def test_flags(asking: FakeServer, authority: Authority, capsys: pytest.CaptureFixture[str]) -> None:
    own = authority.issue("client")
    flags = ["--tls-ca", str(authority.path), "--tls-certificate", own.certificate, "--tls-key", own.key]
    assert main(["health", *flags, "--tls-server-name", "models.example.com", "--api-key", KEY]) == 0
    assert capsys.readouterr().out == "SERVING\n"
    assert asking.seen.metadata["authorization"] == f"Bearer {KEY}"


def test_variables(asking: FakeServer, authority: Authority, monkeypatch: pytest.MonkeyPatch, fails: Fails) -> None:
    own = authority.issue("client")
    values = ("true", str(authority.path), own.certificate, own.key, "models.example.com")
    for name, value in zip(NAMES, values, strict=True):
        monkeypatch.setenv(f"BERTSTREAM_TLS{name}", value)
    monkeypatch.setenv("BERTSTREAM_API_KEY", KEY)
    assert main(["health"]) == 0
    assert asking.seen.metadata["authorization"] == f"Bearer {KEY}"
    code, error = fails("health", "--tls-server-name", "other.example.com")  # a flag wins
    assert (code, "another name" in error) == (3, True)
    code, error = fails("health", "--no-tls")
    assert (code, "it may want TLS: say tls=True (--tls)" in error) == (3, True)


def test_a_servers_own_variables_are_not_the_clients(
    server: FakeServer, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client may run in the environment of the server itself."""
    files = authority.issue("server")
    monkeypatch.setenv("BERTSTREAM_TLS_CERTIFICATE", files.certificate)
    monkeypatch.setenv("BERTSTREAM_TLS_KEY", files.key)
    assert main(["health"]) == 0


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--tls"], 3, "does not speak TLS: connect without tls (--no-tls)"),
        (["--tls-ca", "/none/ca.pem"], 2, "the ca /none/ca.pem cannot be read: No such file or directory"),
        (["--tls-certificate", "/none/a"], 2, "certificate and key must be given together"),
        (["--address", "example.com:1", "--api-key", KEY], 2, "say tls=True (--tls), or insecure_key=True"),
        (["--api-key", f"{KEY} x"], 2, "api_key must be visible ASCII characters"),
    ],
)
def test_what_cannot_be_meant(server: FakeServer, fails: Fails, flags: list[str], code: int, message: str) -> None:
    found, error = fails("health", *flags)
    assert (found, message in error, KEY in error) == (code, True, False)


@pytest.mark.parametrize("name", ["BERTSTREAM_TLS", "BERTSTREAM_INSECURE_KEY"])
def test_a_variable_that_is_neither_true_nor_false(
    server: FakeServer, fails: Fails, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "perhaps")
    assert fails("health") == (2, f"bertstream: error: {name} must be true or false, not 'perhaps'\n")


def test_help_names_the_variables_and_shows_no_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BERTSTREAM_API_KEY", KEY)
    with pytest.raises(SystemExit):
        main(["health", "--help"])
    shown = capsys.readouterr().out
    assert KEY not in shown
    assert all(f"$BERTSTREAM_TLS{name}" in shown for name in NAMES[1:])
    assert "$BERTSTREAM_API_KEY" in shown
