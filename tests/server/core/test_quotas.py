"""A key's quota holds in one frontend, and in several that share its counts."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bertstream.server.core.errors import Code, RequestError
from bertstream.server.core.quotas import BURST_SECONDS, NO_QUOTA, Quota, SharedCounts, wait_seconds
from bertstream.server.settings import KeyEntry

SLOT = 7
Clock = Callable[[float], None]


@pytest.fixture
def counts(tmp_path: Path) -> SharedCounts:
    return SharedCounts(tmp_path / "counts")


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return a clock that stands still until it is moved."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def forward(seconds: float) -> None:
        now[0] += seconds

    return forward


def key(tokens_per_second: float = 100.0, concurrent: int = 0) -> KeyEntry:
    return KeyEntry("a", "0" * 64, tokens_per_second=tokens_per_second, concurrent=concurrent, slot=SLOT)


def refused(quota: Quota, tokens: int) -> RequestError:
    with pytest.raises(RequestError) as raised:
        quota.charge(tokens)
    assert (raised.value.code, raised.value.reason) == (Code.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
    return raised.value


@pytest.mark.parametrize(
    ("rate", "tokens", "told", "retry"), [(100.0, 1, 0.1, 0.01), (100.0, 37, 0.4, 0.37), (1e6, 1, 0.1, 0.001)]
)
def test_who_waits_as_long_as_told_has_waited_long_enough(
    counts: SharedCounts, pass_time: Clock, rate: float, tokens: int, told: float, retry: float
) -> None:
    quota = Quota(key(rate), counts)
    quota.charge(int(rate * BURST_SECONDS))
    error = refused(quota, tokens)
    assert error.retry_seconds == retry
    assert error.message.endswith(f"try again in {told} s")
    pass_time(retry)
    quota.charge(tokens)


@pytest.mark.parametrize(
    ("full_at", "cost", "wait"),
    [
        (0.0, 5.0, 0.0),  # the bucket has been full for long
        (0.0, 50.0, 0.0),  # more than the bucket holds has room when it is full
        (102.0, 3.0, 0.0),
        (102.0, 3.5, 0.5),
        (102.0, 50.0, 2.0),
        (130.0, 1.0, 26.0),  # the key owes 25 s
    ],
)
def test_when_a_bucket_has_room(full_at: float, cost: float, wait: float) -> None:
    assert wait_seconds(full_at, cost, now=100.0) == pytest.approx(wait)


def test_a_burst_then_the_rate(counts: SharedCounts, pass_time: Clock) -> None:
    quota = Quota(key(), counts)
    quota.charge(200)
    quota.charge(300)
    error = refused(quota, 100)
    assert error.retry_seconds == pytest.approx(1.0)
    assert error.message == "this key has had its 100 tokens a second; try again in 1.0 s"
    pass_time(0.5)
    assert refused(quota, 100).retry_seconds == pytest.approx(0.5)
    quota.charge(50)
    pass_time(1.0)
    quota.charge(100)
    pass_time(1000.0)
    quota.charge(500)  # only a burst was saved up
    refused(quota, 1)


def test_a_call_larger_than_a_burst_goes_when_all_of_it_is_there_and_is_paid_for_later(
    counts: SharedCounts, pass_time: Clock
) -> None:
    quota = Quota(key(), counts)
    quota.charge(1000)
    assert refused(quota, 1).retry_seconds == pytest.approx(5.01)
    pass_time(5.01)
    quota.charge(1)


def test_before_any_work_it_is_looked_whether_a_token_would_fit(counts: SharedCounts, pass_time: Clock) -> None:
    quota = Quota(key(), counts)
    quota.check()
    quota.charge(500)
    with pytest.raises(RequestError, match="QUOTA_EXCEEDED"):
        quota.check()
    pass_time(0.011)
    quota.check()


def test_what_was_not_worked_on_is_given_back(counts: SharedCounts, pass_time: Clock) -> None:
    quota = Quota(key(), counts)
    quota.charge(500)
    quota.give_back(120)
    refused(quota, 121)
    quota.charge(120)
    quota.give_back(0)
    refused(quota, 1)


def test_without_a_key_or_bounds_there_is_nothing_to_refuse(counts: SharedCounts) -> None:
    for quota in (NO_QUOTA, Quota(key(0.0), counts)):
        quota.check()
        quota.charge(1 << 40)
        quota.give_back(5)
        with quota.calling(), quota.calling():
            pass
        asyncio.run(quota.pay(1 << 40))


def test_calls_at_once(counts: SharedCounts) -> None:
    quota = Quota(key(0.0, concurrent=2), counts)
    with quota.calling():
        with quota.calling():
            with pytest.raises(RequestError) as raised, quota.calling():
                pass
            assert (raised.value.reason, raised.value.retry_seconds) == ("QUOTA_EXCEEDED", 1.0)
            assert raised.value.message == "this key has 2 calls under way, which is its bound"
        with quota.calling():
            pass
    with pytest.raises(KeyError), quota.calling():
        raise KeyError
    with quota.calling(), quota.calling():
        pass


async def test_streams_wait_and_pay_in_turn(counts: SharedCounts) -> None:
    quota, order = Quota(key(1000.0), counts), []
    began = time.monotonic()  # before the bucket is empty, and begins to fill again
    quota.charge(5000)

    async def pay(name: str, tokens: int) -> None:
        await quota.pay(tokens)
        order.append(name)

    await asyncio.gather(pay("large", 200), pay("small", 10))
    assert order == ["large", "small"]
    assert time.monotonic() - began >= 0.2


async def test_many_tokens_are_paid_in_instalments_with_room_for_calls_between(counts: SharedCounts) -> None:
    quota = Quota(key(10_000.0), counts)
    quota.charge(50_000)
    paying = asyncio.create_task(quota.pay(30_000))  # takes 3 s, in instalments
    done, waits = 0, []
    while not paying.done():
        try:
            quota.charge(100)
            done += 1
        except RequestError as error:
            waits.append(error.retry_seconds or 0.0)
        await asyncio.sleep(0.05)
    assert done > len(waits)  # most of the time there is room
    assert all(0 < wait < 0.02 for wait in waits)  # never longer than 100 tokens take


async def test_a_stream_that_gives_up_has_paid_nothing(counts: SharedCounts) -> None:
    quota = Quota(key(1000.0), counts)
    paying = asyncio.create_task(quota.pay(9000))
    await asyncio.sleep(0.01)
    assert refused(quota, 1000).retry_seconds
    paying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await paying
    quota.charge(4900)


async def test_a_key_that_changes_or_goes_changes_what_is_under_way(
    counts: SharedCounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    quota = Quota(key(0.001), counts)
    quota.charge(1)
    paying = asyncio.create_task(quota.pay(5))
    await asyncio.sleep(0.01)
    quota.change(key(0.0))
    await asyncio.wait_for(paying, 20)
    quota.change(key(0.001))
    paying = asyncio.create_task(quota.pay(5))
    await asyncio.sleep(0.01)
    quota.revoke()
    with pytest.raises(RequestError, match="KEY_UNKNOWN: this key is not valid any more"):
        await asyncio.wait_for(paying, 20)
    for refuse in (quota.check_key, quota.check, lambda: quota.charge(1)):
        with pytest.raises(RequestError, match="KEY_UNKNOWN"):
            refuse()


def test_frontends_share_tokens_and_calls(tmp_path: Path, pass_time: Clock) -> None:
    """Map the file for each frontend, as processes of their own do."""
    one, other = (SharedCounts(tmp_path / "counts", 2, number) for number in range(2))
    first, second = Quota(key(100.0, 2), one), Quota(key(100.0, 2), other)
    first.charge(300)
    second.charge(200)
    for quota in (first, second):
        refused(quota, 1)
    with first.calling(), second.calling():
        for quota in (first, second):
            with pytest.raises(RequestError), quota.calling():
                pass


def test_the_next_life_of_a_frontend_forgets_the_calls_of_the_last(tmp_path: Path) -> None:
    dead, other = (SharedCounts(tmp_path / "counts", 2, number) for number in range(2))
    assert [dead.begin_call(SLOT, 3), dead.begin_call(SLOT, 3), other.begin_call(SLOT, 3)] == [True] * 3
    assert not other.begin_call(SLOT, 3)
    again = SharedCounts(tmp_path / "counts", 2, 0)
    assert [again.begin_call(SLOT, 3), again.begin_call(SLOT, 3), again.begin_call(SLOT, 3)] == [True, True, False]


TAKER = """
import sys
from pathlib import Path
from bertstream.server.core.quotas import SharedCounts

path, number = sys.argv[1:]
counts = SharedCounts(Path(path), 4, int(number))
print("ready", flush=True)
sys.stdin.readline()
taken = sum(counts.take(7, 1e-4) == 0.0 for _ in range(20_000))
begun = sum(counts.begin_call(8, 5000) for _ in range(4000))
print(taken, begun)
"""


def test_no_token_and_no_call_is_counted_twice_or_lost_by_processes_at_once(tmp_path: Path) -> None:
    """Take from several processes until nothing is left: a burst of 5 s is 50,000, and some come meanwhile."""
    command = [sys.executable, "-c", TAKER, str(tmp_path / "counts")]
    takers = [
        subprocess.Popen([*command, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    assert all(taker.stdout is not None and taker.stdout.readline() == "ready\n" for taker in takers)
    began = time.monotonic()
    for taker in takers:
        assert taker.stdin is not None
        taker.stdin.write("\n")
        taker.stdin.flush()
    results = [tuple(map(int, taker.communicate(timeout=120)[0].split())) for taker in takers]
    seconds = time.monotonic() - began
    taken = sum(result[0] for result in results)
    assert BURST_SECONDS <= taken * 1e-4 <= BURST_SECONDS + seconds
    assert sum(result[1] for result in results) == 5000
