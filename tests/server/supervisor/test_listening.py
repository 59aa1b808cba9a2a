"""The port, the certificate, and addresses that others can reach."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from bertstream.server.config import ConfigError, ServeConfig
from bertstream.server.supervisor.listening import (
    check_exposure,
    check_ports,
    followed_certificates,
    reserve_port,
    tls_settings,
)
from tests.support.certificates import Authority


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_a_free_port_is_reserved_for_sockets_that_share_it(host: str) -> None:
    with reserve_port(host, 0) as reserved:
        address = reserved.getsockname()
        assert address[1] > 0
        with socket.socket(reserved.family, socket.SOCK_STREAM) as frontend:
            frontend.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            frontend.bind(address)
            frontend.listen()


@pytest.mark.parametrize("listening", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_a_port_in_use_is_an_error(listening: bool, shared: bool) -> None:
    """Even a port that its owner shares, as another server of ours does, is an error."""
    with socket.socket() as other:
        if shared:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        if listening:
            other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            reserve_port("127.0.0.1", port)


def test_a_second_server_on_a_reserved_port_is_an_error() -> None:
    with reserve_port("127.0.0.1", 0) as reserved, pytest.raises(ConfigError):
        reserve_port("127.0.0.1", reserved.getsockname()[1])


@pytest.mark.parametrize(
    ("config", "names"),
    [
        (ServeConfig(port=5, http_port=5), "port and http_port"),
        (ServeConfig(port=5, admin_port=5), "port and admin_port"),
        (ServeConfig(port=4, http_port=5, host="::", admin_port=5), "http_port and admin_port"),
        (ServeConfig(port=5, host="localhost", admin_port=5, admin_host="0.0.0.0"), "port and admin_port"),
    ],
)
def test_one_port_for_two_purposes(config: ServeConfig, names: str) -> None:
    with pytest.raises(ConfigError) as raised:
        check_ports(config)
    assert str(raised.value) == f"{names} are both 5: choose another one for one of them"


def test_ports_that_do_not_meet() -> None:
    check_ports(ServeConfig())
    check_ports(ServeConfig(port=0, http_port=0, admin_port=0))
    check_ports(ServeConfig(port=5, host="192.0.2.1", admin_port=5, admin_host="127.0.0.1"))


def test_a_host_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1:1"):
        reserve_port("192.0.2.1", 1)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "::ffff:127.0.0.1"])
def test_this_machine_alone_needs_no_protection(host: str) -> None:
    check_exposure(host, insecure=False, tls=False, keys=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "::ffff:192.0.2.1"])
def test_an_address_that_others_reach_needs_protection(host: str) -> None:
    with pytest.raises(ConfigError) as raised:
        check_exposure(host, insecure=False, tls=False, keys=False)
    assert str(raised.value).startswith(f"host {host!r} can be reached by other machines")
    assert "tls_certificate" in str(raised.value)
    assert "keys_file" in str(raised.value)
    assert "--insecure" in str(raised.value)
    for protected in ("tls", "keys", "insecure"):
        check_exposure(host, protected == "insecure", tls=protected == "tls", keys=protected == "keys")


def test_keys_that_others_can_read_are_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    for host, insecure, tls in (("127.0.0.1", False, False), ("0.0.0.0", True, False), ("0.0.0.0", False, True)):
        check_exposure(host, insecure, tls=tls, keys=True)
    assert caplog.messages == []
    check_exposure("0.0.0.0", insecure=False, tls=False, keys=True)
    assert caplog.messages == [
        "keys come to '0.0.0.0' in plain text, for all on the way to read: give tls_certificate and tls_key"
    ]


def test_a_name_with_one_address_that_others_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """One such address is enough, since gRPC listens on all of them."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in ("127.0.1.1", "192.0.2.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
    with pytest.raises(ConfigError, match="can be reached"):
        check_exposure("me", insecure=False, tls=False, keys=False)


def test_without_files_there_is_no_tls() -> None:
    assert followed_certificates(ServeConfig()) is None
    assert tls_settings(None) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tls_certificate": "a"}, "tls_certificate needs tls_key beside it"),
        ({"tls_key": "a"}, "tls_key needs tls_certificate beside it"),
        ({"tls_client_ca": "a"}, "tls_client_ca needs tls_certificate beside it"),
        ({"tls_key": "a", "tls_client_ca": "a"}, "tls_key needs tls_certificate beside it"),
        ({"tls_certificate": "/none/a", "tls_key": "b"}, "cannot read /none/a: No such file or directory"),
    ],
)
def test_files_that_cannot_be_served(given: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        followed_certificates(ServeConfig(**given))  # type: ignore[arg-type]


def test_a_frontend_is_told_the_newest_good_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frontend that starts while the files are broken gets it, too."""
    authority = Authority(tmp_path)
    authority.issue("server")
    monkeypatch.chdir(tmp_path)
    certificates = followed_certificates(ServeConfig(tls_certificate="server.pem", tls_key="server.key"))
    first = tls_settings(certificates)
    assert first is not None
    assert first.files.certificate == str(tmp_path / "server.pem")  # whatever directory the frontend runs in
    authority.issue("server")
    second = tls_settings(certificates)
    (tmp_path / "server.key").write_text("")
    assert tls_settings(certificates) == second != first
