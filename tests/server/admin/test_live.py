from __future__ import annotations

import json

import pytest

from bertstream.server.admin.gathering import Pair
from bertstream.server.admin.live import live, quantile
from bertstream.workers.measuring import frontend_metrics, worker_metrics
from bertstream.workers.measuring.snapshots import Distribution, Snapshot, Value
from tests.server.admin.support import gathered, process

ENCODE, OTHER = "bertstream.v1.EncodingService/EncodeTexts", "grpc.health.v1.Health/Check"


def durations(method: str, status: str, bucket: int, count: int) -> Distribution:
    counts = [0] * (len(frontend_metrics.CALL_DURATION.buckets) + 1)
    counts[bucket] = count
    return Distribution(frontend_metrics.CALL_DURATION.name, (method, status), tuple(counts), 0.0)


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
            (Value(frontend_metrics.CALLS_UNDER_WAY.name, (), 3.0),),
            (durations(ENCODE, "OK", 9, 104), durations(OTHER, "OK", 9, 2), durations(ENCODE, "CANCELLED", 9, 2)),
        ),
        processes=(process("worker-0-0", cpu_seconds=6.0, resident_bytes=77),),
    )
    made = live(Pair(before, now))
    calls = made["calls"]
    assert (made["seconds"], calls["per_second"], calls["failed_per_second"], calls["under_way"]) == (2.0, 4.0, 1.0, 3)
    assert calls["by_method"] == {"EncodingService/EncodeTexts": 3.0, OTHER: 1.0}
    assert calls["by_status"] == {"OK": 3.0, "CANCELLED": 1.0}
    low, high = frontend_metrics.CALL_DURATION.buckets[8:10]
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


def test_of_a_model_the_numbers_are_its_own() -> None:
    def snapshot(batches: int) -> Snapshot:
        sizes = [0] * (len(worker_metrics.BATCH_SIZE.buckets) + 1)
        sizes[8] = batches
        fills = [0] * (len(worker_metrics.BATCH_FILL.buckets) + 1)
        fills[4] = batches
        return Snapshot(
            (
                Value(worker_metrics.BATCH_TEXTS.name, ("tiny",), 5.0 * batches),
                Value(worker_metrics.BATCH_TEXTS.name, ("other",), 7.0 * batches),
                Value(worker_metrics.QUEUE_TOKENS.name, ("tiny", "encode", "bulk"), 30.0),
                Value(worker_metrics.QUEUE_TOKENS.name, ("tiny", "generate", "bulk"), 4.0),
                Value(worker_metrics.QUEUE_WAIT.name, ("tiny",), 0.25),
                Value(worker_metrics.GENERATED_TOKENS.name, ("tiny",), 2.0 * batches),
                Value(worker_metrics.CACHE_SIZE.name, ("tiny",), 100.0),
                Value(worker_metrics.CACHE_USED.name, ("tiny",), 25.0),
                Value(frontend_metrics.REFUSALS.name, ("OVERLOADED", "call"), batches),
                Value(frontend_metrics.REFUSALS.name, ("OVERLOADED", "item"), batches),
            ),
            (
                Distribution(worker_metrics.BATCH_SIZE.name, ("tiny",), tuple(sizes), 200.0 * batches),
                Distribution(worker_metrics.BATCH_FILL.name, ("tiny",), tuple(fills), 0.25 * batches),
            ),
        )

    made = live(Pair(gathered(time=1000.0, snapshot=snapshot(10)), gathered(time=1002.0, snapshot=snapshot(14))))
    (model,) = made["models"]
    assert model["queue_tokens"] == {"interactive": 0, "bulk": 34}
    assert (model["queue_seconds"], model["batch_fill"], model["batches_per_second"]) == (0.25, 0.25, 2.0)
    assert (model["texts_per_second"], model["tokens_per_second"], model["cache_fill"]) == (10.0, 404.0, 0.25)
    assert (made["texts_per_second"], made["tokens_per_second"]) == (24.0, 404.0)
    assert made["refused_per_second"] == {"OVERLOADED": 4.0}
