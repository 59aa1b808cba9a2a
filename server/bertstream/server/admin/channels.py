"""The connections from the admin process to the frontends, of which each call takes one that is up."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

import grpc

CONNECT_SECONDS = 2.0  # a frontend that died is there again sooner
_OPTIONS = (
    ("grpc.max_receive_message_length", -1),  # the server bounds its answers
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),
)


class FrontendChannels:
    """One connection to each frontend, made when the first call needs it."""

    def __init__(self, targets: Sequence[str]) -> None:
        """Take gRPC's names of the frontends, such as "unix:/run/frontend-0.socket"."""
        self._targets = tuple(targets)
        self._channels: list[grpc.aio.Channel] = []
        self._turn = itertools.count()

    async def channel(self) -> grpc.aio.Channel:
        """Return the connections that are up in turn; where none is, the first that comes up.

        One that does not come up within CONNECT_SECONDS is returned as it is, and gRPC says what is wrong with it.
        """
        if not self._channels:  # not earlier, since a channel belongs to the loop that it was made in
            self._channels = [grpc.aio.insecure_channel(target, _OPTIONS) for target in self._targets]
        turn = next(self._turn) % len(self._channels)
        in_turn = self._channels[turn:] + self._channels[:turn]
        for channel in in_turn:
            if channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY:
                return channel
        return await _first_up(in_turn)

    async def close(self) -> None:
        """Close all connections; calls under way are cancelled."""
        channels, self._channels = self._channels, []
        await asyncio.gather(*(channel.close() for channel in channels))


async def _first_up(channels: Sequence[grpc.aio.Channel]) -> grpc.aio.Channel:
    waiting = {asyncio.create_task(channel.channel_ready()): channel for channel in channels}
    try:
        await asyncio.wait(waiting, timeout=CONNECT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        up = [channel for task, channel in waiting.items() if task.done() and not task.exception()]
        return (up or channels)[0]
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
