"""How peers are fed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers import Choice, Settings, Vectors
from benchmarks.peers.engine import BATCH_TOKENS, planned
from benchmarks.peers.feeding import Feeder, Padded, batches, in_streams, mean_pooled
from benchmarks.peers.grpc_client import parts_of, rate
from benchmarks.peers.timing import best, concurrently, due_times, paced
from bertstream.client import Timings
from bertstream.server.supervisor.launching import BATCH_TOKENS as SERVED_BATCH_TOKENS

ROWS = [[1], [1, 2, 3], [1, 2], [5, 6, 7, 8, 9]]


def test_batches_are_sorted_and_padded_to_their_own_longest() -> None:
    first, second = batches(ROWS, Choice(batch_size=2))
    assert first.texts.tolist() == [3, 1]
    assert first.ids.tolist() == [[5, 6, 7, 8, 9], [1, 2, 3, 0, 0]]
    assert first.mask.tolist() == [[1] * 5, [1, 1, 1, 0, 0]]
    assert second.ids.shape == (2, 2)
    assert second.inputs["token_type_ids"].tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("streams", [1, 3])
def test_each_batch_is_computed_once_and_answered_in_its_place(streams: int) -> None:
    made = list(batches(ROWS, Choice(batch_size=1)))
    found = in_streams(lambda batch: batch.ids.sum(axis=1, keepdims=True).astype(np.float32), made, streams)
    assert [int(rows[0, 0]) for rows in found] == [35, 6, 3, 1]


class Sums(Feeder):
    """A peer that knows for how many batches at once it was built."""

    def __init__(self, checkpoint: Path) -> None:
        super().__init__(Settings("", str(checkpoint), "", "float32", "cpu", 2, 16, ""))
        self.builds: list[int] = []

    def build(self, streams: int) -> int:
        self.builds.append(streams)
        return streams

    def states(self, batch: Padded, streams: int) -> Vectors:
        assert self.built(streams) == streams
        return np.stack([batch.ids, np.ones_like(batch.ids)], axis=2).astype(np.float32)


def test_texts_are_answered_in_the_order_given(tmp_path: Path) -> None:
    from tests.support.checkpoints import tiny_bert

    feeder = Sums(tiny_bert(tmp_path))
    texts = ["the quick brown fox", "dog", "over the lazy dog the fox"]
    want = np.concatenate([feeder.encode_one([text]) for text in texts])
    for choice in feeder.choices():
        np.testing.assert_allclose(feeder.encode(texts, choice), want, rtol=1e-6)
    assert feeder.builds == [1, 2]
    feeder.settle([Choice(8, 1)])
    feeder.encode(texts, Choice(8, 1))
    assert feeder.builds == [1, 2]


def test_pooling_leaves_padding_out() -> None:
    states = np.array([[[1.0, 0.0], [0.0, 2.0], [9.0, 9.0]]])
    expected = np.array([1.0, 2.0]) / 5**0.5
    np.testing.assert_allclose(mean_pooled(states, np.array([[1, 1, 0]]))[0], expected)


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([3, 9, 5, 2], [[1], [2, 0, 3]]),
        ([20, 1], [[0], [1]]),
        ([5, 5, 5], [[0, 1], [2]]),
        ([], []),
    ],
)
def test_the_engine_gets_batches_as_the_server_makes_them(lengths: Sequence[int], expected: list[list[int]]) -> None:
    assert planned(lengths, batch_tokens=10) == expected


def test_those_batches_are_the_servers() -> None:
    assert BATCH_TOKENS == SERVED_BATCH_TOKENS


def test_where_a_calls_time_went() -> None:
    found = parts_of(0.5, Timings(tokenize=0.01, queue=0.1, compute=0.2, total=0.4))
    assert found == pytest.approx({"tokenize": 0.01, "queue": 0.1, "compute": 0.2, "elsewhere": 0.09, "outside": 0.1})
    silent = parts_of(0.5, Timings(None, None, None, None))
    assert silent == {"tokenize": 0, "queue": 0, "compute": 0, "elsewhere": 0, "outside": 0.5}


def test_a_streams_rate_counts_from_its_first_answer() -> None:
    assert rate([(10.0, 64), (11.0, 64), (12.0, 32)]) == 48.0


@pytest.mark.parametrize("concurrency", [1, 4])
def test_every_call_is_timed_once(concurrency: int) -> None:
    numbers = count()
    latencies = concurrently([lambda: next(numbers)] * 25, concurrency)
    assert len(latencies) == next(numbers) == 25
    assert min(latencies) >= 0


def test_what_a_call_raises_is_raised() -> None:
    def fail() -> None:
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone"):
        concurrently([fail] * 3, 2)


def test_calls_are_due_at_random_times_at_their_rate() -> None:
    times = due_times(100.0, 50.0, seed=0)
    assert times == sorted(times) == due_times(100.0, 50.0, seed=0)
    assert 4700 < len(times) < 5300
    assert times[0] > 0
    assert times[-1] < 100


def test_a_call_that_had_to_wait_is_no_better_for_it() -> None:
    latencies = paced([lambda: None], seconds=0.2, rate=50.0, seed=0)
    assert len(latencies) == len(due_times(0.2, 50.0, seed=0)) > 0
    assert all(0 <= seconds < 60 for seconds in latencies)


def test_the_best_of_all_rounds_counts() -> None:
    turns: list[str] = []
    found = best({name: partial(turns.append, name) for name in ("a", "b")}, rounds=3)
    assert turns == ["a", "b"] * 3
    assert set(found) == {"a", "b"}
    assert all(0 <= seconds < 60 for seconds in found.values())
