"""How often a call is tried, where there are several servers."""

from __future__ import annotations

import pytest

from bertstream.client import DeadlineExceeded, InvalidArgument, Overloaded, RpcError, Unavailable
from bertstream.client._transport.tries import Tries

LOST = Unavailable("lost")


def tries_of(servers: int, retries: int = 4) -> Tries:
    return Tries(servers, retries, lambda: 1.0)


def test_the_tries_of_one_server_are_left_to_grpc() -> None:
    with pytest.raises(Unavailable):
        tries_of(1).failed(0, LOST)


def test_a_try_goes_from_server_to_server_at_once() -> None:
    tries = tries_of(3)
    assert [tries.failed(server, LOST) for server in (2, 0)] == [0.0, 0.0]
    assert tries.refused == {0, 2}


def test_then_come_the_retries_after_longer_and_longer_waits() -> None:
    tries = tries_of(2)
    waits = [tries.failed(server, LOST) for server in [*[0, 1] * 4, 0]]
    assert waits == [0.0, 0.1, 0.0, 0.2, 0.0, 0.4, 0.0, 0.8, 0.0]
    with pytest.raises(Unavailable):
        tries.failed(1, LOST)


def test_without_retries_each_server_is_tried_once() -> None:
    tries = tries_of(2, retries=0)
    assert tries.failed(1, LOST) == 0.0
    with pytest.raises(Unavailable):
        tries.failed(0, LOST)


def test_overload_is_waited_for_once_all_servers_have_no_room() -> None:
    tries = tries_of(2)
    full = Overloaded("full", retry_after=3.0)
    assert tries.failed(0, full) == 0.0
    assert tries.refused == {0}
    assert tries.failed(1, full) == 3.0
    tries = tries_of(2, retries=0)
    assert tries.failed(0, full) == 0.0
    with pytest.raises(Overloaded):
        tries.failed(1, full)


@pytest.mark.parametrize("error", [InvalidArgument("bad"), DeadlineExceeded("late")])
def test_what_would_fail_elsewhere_too_is_not_tried_again(error: RpcError) -> None:
    with pytest.raises(type(error)):
        tries_of(2).failed(0, error)
