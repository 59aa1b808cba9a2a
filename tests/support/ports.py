"""Ports that no other test gets meanwhile, by a socket that holds them and does not listen."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


def hold_port() -> socket.socket:
    """Return a socket that holds a free port of 127.0.0.1.

    Who connects is refused, unless somebody listens there who shares the port: servers of gRPC do, and all of ours.
    """
    held = socket.socket()
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        held.setsockopt(socket.SOL_SOCKET, option, 1)
    held.bind(("127.0.0.1", 0))
    return held


@contextmanager
def held_port() -> Iterator[int]:
    """Hold a port, for servers that come and go there, or for nobody."""
    with hold_port() as held:
        yield held.getsockname()[1]
