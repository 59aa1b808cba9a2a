"""Which server the next call goes to, and which gets none for a while."""

from __future__ import annotations

import pytest

from bertstream.client import Overloaded, Unavailable
from bertstream.client._transport.balance import Balance, Place

LOST = Unavailable("Connection refused")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def balance_of(servers: int, channels: int = 1, clock: Clock | None = None, first: int = 0) -> Balance:
    return Balance([f"s{number}:1" for number in range(servers)], channels, first, clock or Clock(), lambda: 1.0)


def draining() -> Unavailable:
    return Unavailable("the server is shutting down", reason="DRAINING", retry_after=1.0)


def test_of_one_server_the_least_loaded_channel_is_taken() -> None:
    balance = balance_of(1, channels=3)
    assert [balance.acquire().channel for _ in range(4)] == [0, 1, 2, 0]
    balance.release(Place(0, 1))
    assert balance.acquire() == Place(0, 1)


def test_calls_go_to_the_server_with_the_fewest_under_way() -> None:
    balance = balance_of(2, channels=2)
    places = [balance.acquire() for _ in range(4)]
    assert places == [Place(0, 0), Place(1, 0), Place(0, 1), Place(1, 1)]
    balance.release(Place(1, 0))
    assert balance.acquire() == Place(1, 0)


def test_equal_servers_take_turns_and_clients_begin_with_any() -> None:
    balance = balance_of(3, first=2)
    taken = []
    for _ in range(5):
        taken.append(balance.acquire())
        balance.release(taken[-1])
    assert [place.server for place in taken] == [2, 0, 1, 2, 0]


def test_a_server_that_drains_gets_no_calls_until_it_is_open_again(clock: Clock) -> None:
    balance = balance_of(2, clock=clock)
    assert balance.to_ask() == []
    balance.failed(0, draining())
    assert {balance.acquire().server for _ in range(5)} == {1}
    assert balance.to_ask() == [0]
    assert balance.to_ask() == []  # until it has answered
    balance.answered(0, False)
    assert balance.to_ask() == []
    clock.now += 0.2
    assert balance.to_ask() == [0]
    assert balance.acquire().server == 1
    balance.answered(0, True)
    assert {balance.acquire().server for _ in range(5)} == {0}  # which has fewer
    assert balance.to_ask() == []


def test_a_server_is_asked_ever_less_often(clock: Clock) -> None:
    balance = balance_of(2, clock=clock)
    balance.failed(0, LOST)
    assert balance.to_ask() == [0]  # at once
    balance.answered(0, False)
    for wait in (0.2, 0.4, 0.8, 1.6, 2.0, 2.0):
        clock.now += wait - 0.01
        assert balance.to_ask() == []
        clock.now += 0.02
        assert balance.to_ask() == [0]
        balance.answered(0, False)


def test_there_is_no_need_to_wait_where_another_server_takes_calls() -> None:
    balance = balance_of(2)
    assert balance.failed(0, draining()).retry_after is None


def test_a_server_without_room_comes_last_for_a_while_however_few_its_calls(clock: Clock) -> None:
    balance = balance_of(2, clock=clock)
    for wait, full in ((0.25, 0.25), (30.0, 1.0), (None, 0.05)):
        balance.failed(0, Overloaded("full", retry_after=wait))
        assert [balance.acquire() for _ in range(3)] == [Place(1, 0)] * 3
        assert balance.acquire({1}) == Place(0, 0)  # which the other one refused
        balance.release(Place(0, 0))
        clock.now += full
        assert balance.acquire() == Place(0, 0)
        balance.release(Place(0, 0))
    balance.failed(1, Overloaded("full", retry_after=1.0))
    balance.failed(0, Overloaded("full", retry_after=1.0))
    assert balance.acquire() == Place(0, 0)


def test_what_says_nothing_of_the_server_leaves_it_its_calls() -> None:
    error = Unavailable("none", reason="WORKER_LOST")
    balance, wait = balance_of(2), error.retry_after
    assert balance.failed(0, error) is error
    assert (error.retry_after, balance.to_ask()) == (wait, [])
    assert {balance.acquire().server for _ in range(2)} == {0, 1}


def test_where_no_server_takes_calls_the_error_names_all() -> None:
    balance = balance_of(2)
    assert balance.failed(1, LOST) is LOST
    error = balance.failed(0, draining())
    assert str(error) == "none of 2 servers takes calls: s0:1: the server is shutting down; s1:1: Connection refused"
    assert (type(error), error.reason, error.retry_after) == (Unavailable, "NO_SERVER", 1.0)
    assert {balance.acquire().server for _ in range(2)} == {0, 1}  # since any may be back by now
    assert balance_of(1).failed(0, LOST) is LOST


def test_a_reason_that_all_servers_have_is_that_of_the_error() -> None:
    balance = balance_of(2)
    balance.failed(0, draining())
    assert balance.failed(1, draining()).reason == "DRAINING"


def test_a_server_that_has_refused_a_call_comes_last() -> None:
    balance = balance_of(2)
    balance.acquire()
    assert balance.acquire({1}).server == 0
    assert balance.acquire({0, 1}).server == 1
