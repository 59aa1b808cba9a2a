"""A small DNS server, whose records tests change."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

ADDRESS, INTERNET = 1, 1  # the type A, and the only class in use


class Names:
    """Answers any question for IPv4 addresses over UDP with those that it has now, and others with none (RFC 1035)."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self.addresses = list(addresses)
        self.asked = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]

    def serve(self) -> None:
        """Answer until it is closed."""
        with self._socket:
            while True:
                query, sender = self._socket.recvfrom(4096)
                if not query:
                    return
                self._socket.sendto(self._answer(query), sender)

    def close(self) -> None:
        """Have `serve` return."""
        self._socket.sendto(b"", ("127.0.0.1", self.port))

    def _answer(self, query: bytes) -> bytes:
        end = query.index(b"\x00", 12) + 5  # the name, its type and its class
        question = query[12:end]
        found = self.addresses if question[-4:] == struct.pack("!HH", ADDRESS, INTERNET) else []
        self.asked += bool(found)
        header = query[:2] + struct.pack("!HHHHH", 0x8180, 1, len(found), 0, 0)
        record = struct.pack("!HHHIH", 0xC00C, ADDRESS, INTERNET, 0, 4)  # the name of the question, for no time
        return header + question + b"".join(record + socket.inet_aton(address) for address in found)


@contextmanager
def names(addresses: Sequence[str]) -> Iterator[Names]:
    """Serve these addresses for any name."""
    served = Names(addresses)
    thread = threading.Thread(target=served.serve, name="names", daemon=True)
    thread.start()
    try:
        yield served
    finally:
        served.close()
        thread.join(5)
