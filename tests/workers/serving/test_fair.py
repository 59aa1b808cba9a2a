"""Test whose work is next, and which work of others goes before new work."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter

import pytest

from bertstream.workers.contract import Work
from bertstream.workers.serving import fair
from bertstream.workers.serving.fair import FairQueue, Queued
from bertstream.workers.serving.fluid import Fluid
from bertstream.workers.serving.scheduler import entry
from tests.support.works import make_work

NOW = 100.0
SOURCE = object()
numbers = itertools.count()


def of(caller: str, tokens: int = 10, *, weight: float = 1.0, deadline: float = math.inf) -> Queued[Work]:
    number = next(numbers)
    work = make_work(number, [tokens], caller=caller, weight=weight, deadline=deadline)
    return entry(work, SOURCE, NOW + number * 1e-6)


def filled(*entries: Queued[Work]) -> FairQueue[Work]:
    queue: FairQueue[Work] = FairQueue()
    for each in entries:
        queue.add(each)
    return queue


def served(queue: FairQueue[Work], count: int) -> list[str]:
    """Return the callers of the next `count` works, each taken alone."""
    found = []
    for _ in range(count):
        first = next(iter(queue))
        queue.serve([first])
        found.append(first.work.caller)
    return found


def test_callers_take_turns_however_much_each_has_waiting() -> None:
    queue = filled(*(of("a") for _ in range(6)), of("b"), of("b"), of("c"))
    assert [each.work.caller for each in queue] == ["a", "b", "c", "a", "b", "a", "a", "a", "a"]


def test_of_one_caller_the_most_urgent_is_first_and_then_the_earliest() -> None:
    entries = [of("a"), of("a", deadline=NOW + 0.5), of("a"), of("b")]
    assert list(filled(*entries)) == [entries[1], entries[3], entries[0], entries[2]]


def test_they_share_by_tokens() -> None:
    queue = filled(*(of("small", 10) for _ in range(40)), *(of("large", 40) for _ in range(10)))
    assert Counter(served(queue, 25)) == {"small": 20, "large": 5}


def test_they_share_by_weight() -> None:
    queue = filled(*(of("a") for _ in range(40)), *(of("b", weight=3.0) for _ in range(40)))
    assert Counter(served(queue, 40)) == {"a": 10, "b": 30}


def test_the_order_is_the_one_in_which_they_are_taken() -> None:
    dice = random.Random(1)
    queue = filled(*(of(dice.choice("abcd"), dice.randrange(1, 50)) for _ in range(60)))
    ahead = list(queue)
    taken = []
    while len(queue):
        taken.append(next(iter(queue)))
        queue.serve(taken[-1:])
    assert taken == ahead


def test_who_comes_later_has_no_credit_for_having_been_idle() -> None:
    queue = filled(*(of("a") for _ in range(30)))
    served(queue, 20)
    for _ in range(10):
        queue.add(of("b"))
    assert Counter(served(queue, 10)) == {"a": 5, "b": 5}


def test_who_comes_back_at_once_has_still_had_what_it_had() -> None:
    """A calls one at a time, each time for ten times as much as the other."""
    queue = filled(*(of("small", 10) for _ in range(300)), of("large", 100))
    had: Counter[str] = Counter()
    for _ in range(110):
        first = next(iter(queue))
        queue.serve([first])
        had[first.work.caller] += first.tokens
        if first.work.caller == "large":
            queue.add(of("large", 100))
    assert had["large"] == pytest.approx(had["small"], abs=100)


def test_endless_new_callers_do_not_keep_out_who_has_had_much() -> None:
    queue = filled(of("heavy", 200), *(of(f"other {number}") for number in range(9)))
    served(queue, 1)
    queue.add(of("heavy", 10))
    number = 0
    while served(queue, 1) != ["heavy"]:
        number += 1
        queue.add(of(f"new {number}"))
    assert number == pytest.approx(200, abs=20)  # ten times as much as before, shared by ten


def test_whoever_has_nothing_waiting_is_forgotten_once_all_is_idle() -> None:
    queue = filled(of("a", 1000))
    served(queue, 1)
    queue.add(of("b"))
    queue.add(of("a"))
    assert served(queue, 2) == ["b", "a"]


def test_what_is_removed_was_never_there() -> None:
    entries = [of("a"), of("a"), of("b")]
    queue = filled(*entries)
    queue.remove(entries[:1])
    assert list(queue) == entries[1:]
    assert queue.tokens == 20
    assert queue.before_newcomers == 20


def test_equal_entries_are_told_apart() -> None:
    works = [make_work(number) for number in range(3)]
    entries = [entry(work, SOURCE, NOW) for work in works]
    queue = filled(*entries)
    assert queue.cancel(SOURCE, 1)
    assert [each.work.id for each in queue] == [0, 2]


def test_what_expired_is_found_behind_others_too() -> None:
    late, later = of("a", deadline=NOW - 2), of("a", deadline=NOW - 1)
    assert filled(of("b"), late, later, of("a"), of("b")).expired(NOW) == [late, later]


def test_what_goes_before_new_work_is_what_is_taken_before_it() -> None:
    """Of each other caller it may differ by one entry, of which a fluid would have served a part."""
    dice = random.Random(2)
    for _ in range(50):
        queue: FairQueue[Work] = FairQueue()
        names = "abcdef"[: dice.randrange(1, 7)]
        for _ in range(dice.randrange(1, 60)):
            queue.add(of(dice.choice(names), dice.randrange(1, 20)))
            if len(queue) > 10 and dice.random() < 0.3:
                queue.serve(list(itertools.islice(queue, dice.randrange(1, 5))))
            if dice.random() < 0.2:
                queue.tokens_before(of(dice.choice(names)))
        new = of(dice.choice([*names, "new"]), 5)
        expected = queue.tokens_before(new)
        newcomers = queue.before_newcomers
        queue.add(new)
        order = list(queue)
        ahead = sum(each.tokens for each in order[: order.index(new)])
        assert expected == pytest.approx(ahead, abs=20 * len(names))
        if new.work.caller == "new":
            assert expected == newcomers


def test_alone_what_goes_before_is_exact() -> None:
    queue = filled(*(of("a", tokens) for tokens in (3, 4, 5)))
    assert queue.tokens_before(of("a")) == 12
    assert queue.tokens_before(of("a", deadline=NOW)) == 0
    assert queue.tokens_before(of("b")) == 3  # its turn is after the first of the other


def test_what_is_behind_new_work_comes_with_what_is_before_it() -> None:
    entries = [of("a", 3), of("a", 4, deadline=NOW + 50), of("a", 5, deadline=NOW + 60)]
    queue = filled(*entries)
    new = of("a", 7, deadline=NOW + 0.1)
    assert list(queue.behind(new, 10)) == [(entries[1], 3), (entries[2], 7)]
    assert list(queue.behind(new, 2)) == [(entries[1], 3)]
    assert list(queue.behind(of("b"), 10)) == []


def test_of_one_who_presses_more_is_expected_than_waits() -> None:
    queue = filled(*(of("a") for _ in range(10)), of("b"))
    new = of("a")
    assert queue.tokens_before(new) == 110
    queue.refused(of("b"))
    assert queue.tokens_before(new) == 110  # counted once, for as long as nothing leaves
    served(queue, 1)
    assert queue.tokens_before(new) == pytest.approx(90 + 100, abs=20)


def test_of_thousands_of_callers_all_are_counted_once_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []

    def count(starts: list[float], *columns: list[float]) -> Fluid:
        counted.append(len(starts))
        return Fluid(starts, *columns)

    monkeypatch.setattr(fair, "Fluid", count)
    queue = filled(*(of(str(number)) for number in range(3000)))
    served(queue, 1)
    for number in range(3000):
        queue.tokens_before(of(str(number)))
        queue.add(of(f"new {number}"))
    assert counted == [2999]
    served(queue, 1)
    queue.tokens_before(of("new 1"))
    assert counted[1:] == [5998]


def test_callers_of_whom_nothing_waits_are_forgotten_however_many_there_are() -> None:
    queue = filled(of("stays", 10), of("stays", 10))
    for number in range(20_000):
        queue.add(of(str(number), 1000))
        queue.serve([each for each in queue if each.work.caller != "stays"])
    assert len(queue) == 2
    assert queue.tokens == 20


def test_a_fluid_serves_as_counted_by_hand() -> None:
    dice = random.Random(3)
    for _ in range(30):
        callers = [
            (dice.uniform(0, 10), first := dice.randrange(1, 5), first + dice.randrange(20), dice.choice((1.0, 2.5)))
            for _ in range(dice.randrange(0, 6))
        ]
        fluid = Fluid(*([each[column] for each in callers] for column in range(4)))
        for time in (-1.0, 0.0, 3.3, 8.0, 100.0, *(start for start, *_ in callers)):
            expected = sum(
                min(tokens, max(first, (time - start) * weight))
                for start, first, tokens, weight in callers
                if start <= time
            )
            assert fluid.served(time) == pytest.approx(expected)


def test_a_fluid_may_go_on_without_end() -> None:
    fluid = Fluid([1.0, 2.0], [3.0, 1.0], [math.inf, 4.0], [2.0, 1.0])
    assert [fluid.served(time) for time in (0.0, 1.0, 2.5, 3.5, 100.0)] == [0.0, 3.0, 4.0, 6.5, 202.0]
