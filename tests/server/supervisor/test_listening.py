"""The port, the certificate, and addresses that others can reach."""

from __future__ import annotations

import socket

import pytest

from bertstream.server.config import ConfigError
from bertstream.server.supervisor.listening import reserve_port


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
    """Even one that its owner shares, as another server of ours does."""
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


def test_a_host_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1:1"):
        reserve_port("192.0.2.1", 1)
