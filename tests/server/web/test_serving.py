from __future__ import annotations

import asyncio
import socket

import pytest

from bertstream.server.config import ConfigError
from bertstream.server.supervisor.listening import reserve_port
from bertstream.server.web.serving import listening


async def test_no_packet_of_an_answer_waits_for_the_one_before_it() -> None:
    """Of sockets whose protocol is not named asyncio does not turn Nagle's algorithm off."""
    found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def accepted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    own = listening("127.0.0.1", 0)
    async with await asyncio.start_server(accepted, sock=own):
        _, writer = await asyncio.open_connection(*own.getsockname())
        assert await asyncio.wait_for(found, 10) != 0
        writer.close()


def test_the_next_server_has_the_port_although_this_one_has_closed_a_connection() -> None:
    with reserve_port("127.0.0.1", 0) as reserved:
        address = reserved.getsockname()
        with listening(*address) as own:
            own.listen()
            with socket.create_connection(address) as caller:
                accepted, _ = own.accept()
                accepted.close()
                assert caller.recv(1) == b""
    reserve_port(*address).close()


def test_nobody_else_has_the_port_while_it_listens() -> None:
    with listening("127.0.0.1", 0) as own:
        own.listen()
        with pytest.raises(ConfigError, match="Address already in use"):
            reserve_port(*own.getsockname())


def test_nobody_else_has_the_port_before_it_listens() -> None:
    with (
        reserve_port("127.0.0.1", 0) as reserved,
        listening(*reserved.getsockname()),
        pytest.raises(ConfigError, match="Address already in use"),
    ):
        reserve_port(*reserved.getsockname())
