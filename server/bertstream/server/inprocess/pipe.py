"""Hand messages from one asyncio task to another, a few at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class PipeClosed(Exception):
    """Nobody takes what is put into the pipe any more."""


class Pipe(Generic[T]):
    """One direction of a call, which holds at most `room` messages."""

    def __init__(self, room: int = 1) -> None:
        self._room = room
        self._held: deque[T] = deque()
        self._closed = False
        self._changed = asyncio.Event()

    async def put(self, message: T) -> None:
        """Return once there was room for the message. Raises PipeClosed."""
        while not self._closed and len(self._held) >= self._room:
            await self._wait()
        if self._closed:
            raise PipeClosed
        self._held.append(message)
        self._changed.set()

    async def get(self) -> T | None:
        """Return the next message, or None once the pipe is closed and empty."""
        while not self._closed and not self._held:
            await self._wait()
        if not self._held:
            return None
        self._changed.set()
        return self._held.popleft()

    def close(self) -> None:
        """Let no more messages in; those that are held can still be taken."""
        self._closed = True
        self._changed.set()

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()
