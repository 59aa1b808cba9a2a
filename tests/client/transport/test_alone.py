"""A call that the caller's thread makes and waits for by itself."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from bertstream.client import Client
from tests.client.fake_server import FakeServer


class HeldUp(FakeServer):
    """Hold up calls, and note what goes on meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.ended, self.go_on = threading.Event(), threading.Event(), threading.Event()

    def EncodeTexts(self, request: Any, context: Any) -> Any:  # noqa: N802 - as in the .proto file
        context.add_callback(self.ended.set)
        self.begun.set()
        assert self.go_on.wait(20)
        return super().EncodeTexts(request, context)

    def close(self) -> None:
        self.go_on.set()
        super().close()


@pytest.fixture
def held_up() -> Iterator[HeldUp]:
    server = HeldUp()
    yield server
    server.close()


def test_one_message_needs_no_thread_of_grpc(held_up: HeldUp) -> None:
    with Client(held_up.address) as client:
        before, during = set(threading.enumerate()), list[str]()

        def look() -> None:
            assert held_up.begun.wait(20)
            during.extend(thread.name for thread in set(threading.enumerate()) - before)
            held_up.go_on.set()

        looking = threading.Thread(target=look)
        looking.start()
        assert client.encode("a").shape
        looking.join()
        # Without the one that looks, and those of the server, which is in this process.
        assert [name for name in during if "look" not in name and "Pool" not in name] == []


def test_an_interrupted_call_ends_at_the_server(held_up: HeldUp) -> None:
    def interrupt() -> None:
        assert held_up.begun.wait(20)
        time.sleep(0.3)  # while gRPC begins a call, it holds a lock that an interrupt could leave locked
        os.kill(os.getpid(), signal.SIGINT)

    with Client(held_up.address) as client:
        interrupting = threading.Thread(target=interrupt)
        interrupting.start()
        with pytest.raises(KeyboardInterrupt):
            client.encode("a")
        interrupting.join()
        assert held_up.ended.wait(20)
        assert not held_up.go_on.is_set()
