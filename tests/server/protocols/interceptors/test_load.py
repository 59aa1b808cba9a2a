from __future__ import annotations

from typing import Any

import grpc
import pytest

from bertstream.server.core import errors
from bertstream.server.protocols.call import CallerGone
from bertstream.server.protocols.interceptors.load import (
    REPORT_SECONDS,
    CountedCalls,
    Reused,
    is_own_failure,
    report_load,
)


def test_a_report_is_made_ten_times_a_second_at_most() -> None:
    now, made = [5.0], [0]

    def make() -> bytes:
        made[0] += 1
        return b"%d" % made[0]

    report = Reused(make, lambda: now[0])
    assert [report(), report()] == [b"1", b"1"]
    now[0] += REPORT_SECONDS * 1.01
    assert [report(), report()] == [b"2", b"2"]


@pytest.mark.parametrize(
    ("error", "own"),
    [
        (errors.overloaded("full", 1.0), True),
        (errors.draining(), True),
        (errors.internal(), True),
        (KeyError("a bug"), True),
        (errors.quota_exceeded("too many", 1.0), False),
        (errors.poisonous(3), False),
        (errors.reader_stalled(1.0), False),
        (errors.invalid("inputs", "empty"), False),
        (errors.deadline_exceeded(), False),
        (CallerGone(), False),
        (grpc.aio.AbortError(), False),
    ],
)
def test_only_the_server_s_own_failures_keep_balancers_away(error: Exception, own: bool) -> None:
    assert is_own_failure(error) is own


class FakeCall:
    def __init__(self) -> None:
        self.trailers: dict[str, Any] = {}


async def test_every_call_is_counted_and_ends_with_the_report() -> None:
    counted, good, bad = CountedCalls(), FakeCall(), FakeCall()
    link: Any = report_load("load-bin", lambda: b"report", counted)

    async def answer() -> str:
        return "the answer"

    async def fail() -> None:
        raise errors.draining()

    assert await link(good, answer) == "the answer"
    with pytest.raises(errors.RequestError):
        await link(bad, fail)
    assert good.trailers == bad.trailers == {"load-bin": b"report"}
    assert counted.calls.per_second > counted.failures.per_second > 0.0
