from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bertstream.workers.serving import cores
from bertstream.workers.serving.cores import Caution, Cores, Share, Spent, spent


@dataclass
class Machine:
    """Simulate some cores, workers that share them, and a clock that stands still."""

    path: Path
    cores: int
    most: int = 8
    threads: dict[int, int] = field(default_factory=dict)  # that each worker computes with
    workers: int = 0
    spent: Spent = field(default_factory=lambda: Spent(100.0, 0.0, 0))  # by any worker

    def __post_init__(self) -> None:
        cores.make(self.path)

    def worker(self, own: int = 1) -> Cores:
        slot, self.workers = self.workers, self.workers + 1
        share = Share(str(self.path), slot, self.cores, min(self.most, self.cores))

        def set_threads(threads: int) -> None:
            self.threads[slot] = threads

        return Cores(share, own, set_threads, lambda: self.spent)

    def compute(self, worker: Cores, *, shared: bool = False, seconds: float = 1.0) -> int:
        """Compute for some seconds, and return the number of threads."""
        threads = worker.take(idle=True)
        now, portion = self.spent, 0.3 if shared else 1.0
        self.spent = Spent(now.seconds + seconds, now.processor + portion * threads * seconds, now.preempted + shared)
        worker.give_back()
        return threads


@pytest.fixture
def four(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "cores", 4)


def test_who_computes_alone_has_all_cores(four: Machine) -> None:
    worker, _ = four.worker(), four.worker()
    assert worker.take(idle=True) == 4
    assert four.threads[0] == 4


def test_who_is_in_no_hurry_keeps_to_its_own(four: Machine) -> None:
    worker = four.worker()
    assert worker.take(idle=False) == 1
    assert four.threads[0] == 1


def test_cores_of_others_are_not_taken(four: Machine) -> None:
    first, second, third = four.worker(), four.worker(), four.worker()
    assert first.take(idle=False) == 1
    assert second.take(idle=True) == 3
    assert third.take(idle=True) == 1  # its own, though none is left
    second.give_back()
    third.give_back()
    assert third.take(idle=True) == 3
    first.give_back()
    third.give_back()
    assert third.take(idle=True) == 4


def test_there_is_a_limit_for_one_computation(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "cores", 64)
    assert machine.worker().take(idle=True) == 8
    assert machine.worker(own=16).take(idle=True) == 16


def test_own_threads_are_never_fewer(four: Machine) -> None:
    first, second = four.worker(own=2), four.worker(own=2)
    assert first.take(idle=True) == 4
    assert second.take(idle=True) == 2


def test_threads_are_set_only_where_their_number_changes(four: Machine) -> None:
    worker = four.worker()
    worker.take(idle=True)
    worker.give_back()
    four.threads.clear()
    worker.take(idle=True)
    assert four.threads == {}
    worker.give_back()
    worker.take(idle=False)
    assert four.threads == {0: 1}


def test_a_worker_that_replaces_a_dead_one_says_that_it_is_idle(four: Machine) -> None:
    dead, other = four.worker(), four.worker()
    dead.take(idle=False)
    four.workers = 0
    four.worker()
    assert other.take(idle=True) == 4


def test_who_takes_none_of_others_is_seen_to_compute(four: Machine) -> None:
    four.most = 0
    modest = four.worker(own=3)
    four.most = 8
    other = four.worker()
    assert modest.take(idle=True) == 3
    assert other.take(idle=True) == 1
    seen: list[int] = []
    modest.warm_up(lambda: seen.append(1))
    assert seen == []


def test_workers_that_come_back_to_their_cores_are_soon_forgotten(four: Machine) -> None:
    worker, other = four.worker(), four.worker()
    for _ in range(5):
        assert worker.take(idle=True) == 4
        other.take(idle=True)
        other.give_back()
        now = four.spent
        four.spent = Spent(now.seconds + 1.01, now.processor + 1.0, now.preempted + 1)
        worker.give_back()
        four.spent = Spent(four.spent.seconds + 1.01, 0.0, 0)


def test_what_is_gone_can_be_said_to_be_idle(four: Machine) -> None:
    gone, other = four.worker(), four.worker()
    gone.take(idle=True)
    cores.clear(four.path, [0])
    assert other.take(idle=True) == 4


def test_warming_up_uses_the_most_threads_and_gives_them_back(four: Machine) -> None:
    worker, other = four.worker(), four.worker()
    seen = []
    worker.warm_up(lambda: seen.append((four.threads[0], other.take(idle=True))))
    other.give_back()
    assert seen == [(4, 1)]
    assert four.threads[0] == 1  # for what is measured then
    assert other.take(idle=True) == 4


def test_where_something_else_has_the_cores_they_are_left_alone_for_ever_longer(four: Machine) -> None:
    worker = four.worker()
    assert four.compute(worker) == 4
    assert four.compute(worker, shared=True) == 4  # it may be chance
    assert four.compute(worker, shared=True) == 4  # and now it knows
    assert four.compute(worker, seconds=0.9) == 1
    assert four.compute(worker, seconds=0.2) == 1
    assert four.compute(worker, shared=True) == 4  # a second has passed, and it is no better
    assert [four.compute(worker, seconds=0.7) for _ in range(4)] == [1, 1, 1, 4]
    assert four.compute(worker) == 4


def test_one_disturbance_among_many_computations_is_chance(four: Machine) -> None:
    worker = four.worker()
    assert {four.compute(worker, shared=number % 9 == 0) for number in range(100)} == {4}
    assert 1 in {four.compute(worker, shared=number % 8 == 0) for number in range(100)}


@pytest.mark.parametrize(
    ("before", "shared", "after"),
    [
        (Caution(), False, Caution()),
        (Caution(), True, Caution(warned=True)),
        (Caution(warned=True), False, Caution(warned=True, calm=1)),
        (Caution(warned=True, calm=6), False, Caution(warned=True, calm=7)),
        (Caution(warned=True, calm=7), False, Caution()),
        (Caution(warned=True, calm=7), True, Caution(1.0, 51.0, warned=True)),
        (Caution(1.0, 10.0, warned=True), True, Caution(2.0, 52.0, warned=True)),
        (Caution(40.0, 10.0, warned=True), True, Caution(60.0, 110.0, warned=True)),
        (Caution(60.0, 10.0, warned=True), False, Caution(60.0, 10.0, warned=True, calm=1)),
        (Caution(60.0, 10.0, warned=True, calm=7), False, Caution()),
    ],
)
def test_caution(before: Caution, shared: bool, after: Caution) -> None:
    assert before.after(shared, now=50.0) == after


def test_caution_is_short_where_it_was_a_worker() -> None:
    assert Caution(40.0, 10.0, warned=True).after(True, now=50.0, by_workers=True) == Caution(1.0, 51.0, warned=True)


@pytest.mark.parametrize(
    ("what", "shared"),
    [
        (Spent(1.0, 4.0, 0), False),
        (Spent(1.0, 2.9, 5), False),  # next to nothing was lost
        (Spent(1.0, 2.0, 0), False),  # half of it was for one thread
        (Spent(1.0, 1.0, 0), False),
        (Spent(1.0, 2.0, 1), True),
        (Spent(1.0, 0.8, 0), True),  # not even one thread had its core all the time
        (Spent(0.0, 0.0, 0), False),
    ],
)
def test_whether_something_else_had_the_cores(what: Spent, shared: bool) -> None:
    assert what.was_shared(threads=4) == shared


def test_what_a_process_has_spent() -> None:
    before = spent()
    while (since := spent() - before).processor < 0.01:
        pass
    threads = len(list(Path("/proc/self/task").iterdir()))  # what others of this process compute is counted, too
    assert since.seconds >= 0.009 / threads
    assert since.preempted >= 0
