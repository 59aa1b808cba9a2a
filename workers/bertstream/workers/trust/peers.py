"""Check who is at the other end of a Unix socket."""

from __future__ import annotations

import os
import socket
import struct

_CREDENTIALS = struct.Struct("3i")  # struct ucred, see unix(7): the process, the user, the group


def peer_problem(connected: socket.socket) -> str:
    """Return why the process at the other end is not trusted; "" for one of this user's own.

    Only Linux tells. In any case, and elsewhere alone, the guard is the folder of the sockets, which is this user's
    alone.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        return ""
    found = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, user, _ = _CREDENTIALS.unpack(found)
    own = os.geteuid()
    return "" if user == own else f"process {pid} is the user {user}'s, not {own}'s"
