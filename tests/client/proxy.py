"""A small HTTP proxy that knows only CONNECT."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Proxy:
    """A proxy on a free port of 127.0.0.1, which refuses all requests, or connects all of them to the same port."""

    def __init__(self, port: int | None) -> None:
        """Start the proxy; it connects to `port` of 127.0.0.1, or refuses for None."""
        self.asked: list[str] = []
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open = [self._listener]
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                caller = self._listener.accept()[0]
                self._open.append(caller)
                threading.Thread(target=self._serve, args=[caller], daemon=True).start()

    def _serve(self, caller: socket.socket) -> None:
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            if not (byte := caller.recv(1)):
                return
            request += byte
        self.asked.append(request.split()[1].decode())
        if self._port is None:
            caller.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")
            caller.close()
            return
        server = socket.create_connection(("127.0.0.1", self._port))
        self._open.append(server)
        caller.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        threading.Thread(target=_copy, args=[server, caller], daemon=True).start()
        _copy(caller, server)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
