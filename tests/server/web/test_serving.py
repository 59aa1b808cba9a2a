from __future__ import annotations

import asyncio
import socket

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
