from __future__ import annotations

import json

import pytest

from bertstream.server.admin.gathering import Pair
from bertstream.server.admin.live import live, quantile
from bertstream.workers.measuring import catalog
from bertstream.workers.measuring.snapshots import Distribution, Snapshot, Value
from tests.server.admin.support import gathered, process

ENCODE, OTHER = "bertstream.v1.EncodingService/EncodeTexts", "grpc.health.v1.Health/Check"


def durations(method: str, status: str, bucket: int, count: int) -> Distribution:
    counts = [0] * (len(catalog.CALL_DURATION.buckets) + 1)
    counts[bucket] = count
    return Distribution(catalog.CALL_DURATION.name, (method, status), tuple(counts), 0.0)


@pytest.mark.parametrize(
    ("part", "counts", "found"),
    [
        (0.5, [0, 0, 0, 0], None),
        (0.5, [10, 0, 0, 0], 0.5),
        (0.5, [0, 10, 0, 0], 1.5),
        (0.9, [5, 4, 1, 0], 2.0),
        (0.99, [5, 4, 1, 0], pytest.approx(3.8)),
        (0.99, [0, 0, 0, 3], 4.0),  # of what is above all bounds, no more is known
    ],
)
def test_a_quantile_lies_within_its_bucket(part: float, counts: list[int], found: float | None) -> None:
    assert quantile(part, (1.0, 2.0, 4.0), counts) == found


def test_rates_are_over_the_time_between() -> None:
    before = gathered(
        time=1000.0,
        snapshot=Snapshot((), (durations(ENCODE, "OK", 9, 100),)),
        processes=(process("worker-0-0", cpu_seconds=5.0),),
    )
    now = gathered(
        time=1002.0,
        snapshot=Snapshot(
            (Value(catalog.CALLS_UNDER_WAY.name, (), 3.0),),
            (durations(ENCODE, "OK", 9, 104), durations(OTHER, "OK", 9, 2), durations(ENCODE, "CANCELLED", 9, 2)),
        ),
        processes=(process("worker-0-0", cpu_seconds=6.0, resident_bytes=77),),
    )
    made = live(Pair(before, now))
    calls = made["calls"]
    assert (made["seconds"], calls["per_second"], calls["failed_per_second"], calls["under_way"]) == (2.0, 4.0, 1.0, 3)
    assert calls["by_method"] == {"EncodingService/EncodeTexts": 3.0, OTHER: 1.0}
    assert calls["by_status"] == {"OK": 3.0, "CANCELLED": 1.0}
    low, high = catalog.CALL_DURATION.buckets[8:10]
    assert all(low < each <= high for each in calls["latency_seconds"].values())
    (worker,) = made["processes"]
    assert (worker["cpu_cores"], worker["resident_bytes"], worker["state"]) == (0.5, 77, "ready")


def test_at_first_all_rates_are_nothing() -> None:
    first = gathered(snapshot=Snapshot((), (durations(ENCODE, "OK", 9, 100),)))
    made = live(Pair(first, first))
    assert made["calls"]["per_second"] == 0
    assert made["calls"]["latency_seconds"] == {"p50": None, "p90": None, "p99": None}
    assert made["server"]["address"] == "127.0.0.1:50051"
    assert json.loads(json.dumps(made))["models"][0]["name"] == "tiny"
