"""Test continuous batching, turn by turn."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bertstream.workers.contract import BULK, Completed, Failure, Generate, Generated
from bertstream.workers.generation.queue import rows_of
from bertstream.workers.generation.warming import warm_up
from bertstream.workers.serving.running_record import Computing, RunningRecord, read_running
from tests.support.generation import Bench, Caller, HistoryProgram, Ids, answers_of, make_generate

BAD = 55  # an input with this id fails; no answer has it, since it is not in the vocabulary


class Breaking(HistoryProgram):
    """Fail where the bad id is in a history of at least this many tokens."""

    def __init__(self, error: Exception, *, from_tokens: int = 0) -> None:
        super().__init__()
        self._error = error
        self._from_tokens = from_tokens

    def logits(self, source: Ids | None, tokens: Ids) -> Tensor:
        if BAD in (*tokens, *(source or ())) and len(tokens) >= self._from_tokens:
            raise self._error
        return super().logits(source, tokens)


def some_works(count: int, **options: Any) -> list[Generate]:
    dice = random.Random(3)
    ways: list[dict[str, Any]] = [
        {},
        {"num_beams": 3, "num_return_sequences": 2},
        {"do_sample": True, "num_return_sequences": 2, "seed": 5},
        {"repetition_penalty": 1.4, "no_repeat_ngram_size": 2},
        {"num_beams": 2, "early_stopping": "first", "min_new_tokens": 2},
    ]
    return [
        make_generate(
            number,
            [dice.randrange(4, 40) for _ in range(dice.randrange(1, 20))],
            max_new_tokens=dice.randrange(1, 25),
            eos_token_ids=(3, 9),
            **{**ways[number % len(ways)], **options},
        )
        for number in range(count)
    ]


def alone(directory: Path, work: Generate, **options: Any) -> list[list[int]]:
    return answers_of(Bench(directory, **options).run(work)[0])


@pytest.mark.parametrize("encoder", [False, True], ids=["causal", "encoder_decoder"])
def test_those_who_join_and_leave_do_not_change_the_others(tmp_path: Path, encoder: bool) -> None:
    works = some_works(40)
    bench = Bench(tmp_path, encoder=encoder, cache_tokens=400, max_sequences=12)
    for number, work in enumerate(works):
        bench.add(work)
        if number % 3:
            bench.generator.turn()
        if number in (10, 20, 30):
            bench.queue.cancel(bench.caller, (number - 1,))
    bench.finish()
    kept = {each.id: answers_of(each) for each in bench.caller.replies if isinstance(each, Completed)}
    assert len(kept) >= 37
    assert kept == {number: alone(tmp_path, works[number], encoder=encoder) for number in kept}
    widths = [count for name, count in bench.program.calls if name == "step"]
    assert 6 < max(widths) <= 12
    assert bench.generator.rows.used == 0


def test_one_that_ends_leaves_at_once_and_another_joins_at_the_next_step(tmp_path: Path) -> None:
    bench = Bench(tmp_path, cache_tokens=12)
    bench.add(make_generate(1, [5] * 6, max_new_tokens=2))
    bench.add(make_generate(2, [6], max_new_tokens=5))
    bench.add(make_generate(3, [7] * 4, max_new_tokens=2))  # there is no room for it before the first has gone
    assert bench.generator.turn()
    assert bench.program.calls == [("prefill", 2), ("step", 2)]
    assert [each.id for each in bench.caller.replies if isinstance(each, Completed)] == [1]
    assert bench.generator.turn()
    assert bench.program.calls[2:] == [("prefill", 1), ("step", 2)]


def test_inputs_are_computed_together_up_to_a_bound(tmp_path: Path) -> None:
    bench = Bench(tmp_path, encoder=True, batch_tokens=10)
    works = [make_generate(number, [5] * 4, max_new_tokens=2) for number in range(5)]
    bench.run(*works)
    assert [count for name, count in bench.program.calls if name == "encode_source"] == [2, 2, 1]


@pytest.mark.parametrize("encoder", [False, True], ids=["causal", "encoder_decoder"])
def test_no_sequence_holds_more_rows_than_were_reserved(tmp_path: Path, encoder: bool) -> None:
    for work in some_works(15):
        rows = work.ids.size + work.options.max_new_tokens * max(
            work.options.num_beams, work.options.num_return_sequences
        )
        bench = Bench(tmp_path, encoder=encoder, cache_tokens=rows)
        bench.add(work)
        most = 0
        while bench.generator.turn():
            most = max(most, bench.generator.rows.used)
        assert most <= rows
        assert bench.caller.completed(work.id).lengths.min() >= 1


def test_a_thousand_generations_of_which_a_third_are_cancelled_leave_nothing(tmp_path: Path) -> None:
    dice = random.Random(1)
    bench = Bench(tmp_path, HistoryProgram(20), cache_tokens=300, max_sequences=24, vocabulary_size=20)
    unwanted: list[int] = []
    for number in range(1000):
        options: dict[str, Any] = dice.choice(({}, {"num_beams": 2}, {"do_sample": True, "num_return_sequences": 2}))
        ids = [dice.randrange(20) for _ in range(dice.randrange(1, 6))]
        bench.add(make_generate(number, ids, max_new_tokens=dice.randrange(1, 8), eos_token_ids=(3,), **options))
        if number % 3 == 2:
            unwanted.append(number - dice.randrange(3))
        if number % 4 == 0:
            bench.generator.turn()
            bench.queue.cancel(bench.caller, unwanted[-1:])
    bench.queue.cancel(bench.caller, unwanted)
    bench.finish()
    answered = {each.id for each in bench.caller.replies if isinstance(each, Completed)}
    assert set(range(1000)) - set(unwanted) <= answered
    assert len(answered) < 950
    assert bench.generator.rows.used == 0
    assert sorted(bench.generator.rows.allocate(300).tolist()) == list(range(300))
    assert len(bench.queue) == 0
    assert bench.queue.cancelled() == frozenset()
    assert not bench.generator.turn()


def test_what_is_cancelled_leaves_within_a_step(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.add(make_generate(1, max_new_tokens=50))
    bench.add(make_generate(2, max_new_tokens=50, num_beams=4))
    bench.generator.turn()
    held = bench.generator.rows.used
    bench.queue.cancel(bench.caller, (2,))
    bench.generator.turn()
    assert bench.program.calls[-1] == ("step", 1)
    assert bench.generator.rows.used < held
    bench.queue.forget(bench.caller)
    assert not bench.generator.turn()
    assert bench.generator.rows.used == 0
    assert bench.caller.replies == []


def test_what_expires_fails_whether_it_waits_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    bench, soon = Bench(tmp_path, cache_tokens=60), now + 0.05
    bench.add(make_generate(1, max_new_tokens=50, deadline=soon))
    bench.add(make_generate(2, max_new_tokens=50, deadline=soon + 1e-6))
    bench.add(make_generate(3))
    bench.generator.turn()
    now += 0.06
    bench.finish()
    assert bench.caller.failures() == {
        1: Failure(1, "expired", "the deadline passed while tokens were generated"),
        2: Failure(2, "expired", "the deadline passed while the work waited"),
    }
    assert bench.caller.completed(3).lengths.tolist() == [5]


@pytest.mark.parametrize("from_tokens", [0, 6])
@pytest.mark.parametrize("encoder", [False, True], ids=["causal", "encoder_decoder"])
def test_what_fails_fails_alone(tmp_path: Path, encoder: bool, from_tokens: int) -> None:
    program = Breaking(RuntimeError("broken"), from_tokens=from_tokens)
    bench = Bench(tmp_path, program, encoder=encoder)
    works = some_works(9)
    for number, work in enumerate(works):
        bench.add(make_generate(50, [BAD, 5], max_new_tokens=9, num_beams=2) if number == 4 else work)
    bench.finish()
    assert bench.caller.failures() == {50: Failure(50, "internal", "the model could not compute this")}
    for work in works[:4] + works[5:]:
        assert answers_of(bench.caller.completed(work.id)) == alone(tmp_path, work, encoder=encoder)
    assert bench.generator.rows.used == 0
    assert read_running(bench.record) == frozenset()


def test_memory_that_runs_out_is_said_to_have(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Breaking(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")))
    bench.add(make_generate(1, [BAD]))
    bench.finish()
    assert bench.caller.failures()[1].reason == "out_of_memory"


def test_an_error_of_the_gpu_itself_is_not_survived_and_leaves_the_record(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Breaking(RuntimeError("CUDA error: an illegal memory access was encountered")))
    bench.add(make_generate(1, [BAD]))
    bench.add(make_generate(2, [5]))
    with pytest.raises(RuntimeError, match="illegal memory access"):
        bench.generator.turn()
    assert read_running(bench.record) == {(4, 1), (4, 2)}
    assert bench.computing.seconds > 0
    assert bench.caller.replies == []


def test_what_may_kill_a_worker_is_computed_apart_and_named_alone(tmp_path: Path) -> None:
    records: list[frozenset[tuple[int, int]]] = []

    class Watching(HistoryProgram):
        def logits(self, source: Ids | None, tokens: Ids) -> Tensor:
            records.append(read_running(bench.record))
            return super().logits(source, tokens)

    bench = Bench(tmp_path, Watching())
    works = [make_generate(number, alone=number > 2, max_new_tokens=2) for number in (1, 2, 3, 4)]
    assert len({str(answers_of(each)) for each in bench.run(*works)}) == 1
    assert set(records) == {frozenset({(4, 1), (4, 2)}), frozenset({(4, 3)}), frozenset({(4, 4)})}
    assert bench.program.calls == [
        ("prefill", 2),
        ("prefill", 1),
        ("prefill", 1),
        ("step", 2),
        ("step", 1),
        ("step", 1),
    ]


def test_tokens_come_as_they_are_found_in_one_message_to_each_connection(tmp_path: Path) -> None:
    bench, other = Bench(tmp_path), Caller(5)
    bench.add(make_generate(1, [5, 6], stream=True, max_new_tokens=3))
    bench.add(make_generate(2, [7], stream=True, do_sample=True, num_return_sequences=2, max_new_tokens=4))
    bench.add(make_generate(3, [7]))
    bench.add(make_generate(4, [7], num_beams=2, stream=True))  # nothing of a beam search is known before its end
    assert bench.queue.add(make_generate(1, [9], stream=True, max_new_tokens=3), other) is None
    bench.finish()
    generated = [each for each in bench.caller.replies if isinstance(each, Generated)]
    assert [each.works.tolist() for each in generated] == [[1, 2, 2]] * 3 + [[2, 2]]
    assert [each.sequences.tolist() for each in generated] == [[0, 0, 1]] * 3 + [[0, 1]]
    for work_id, caller, sequences in ((1, bench.caller, 1), (2, bench.caller, 2), (1, other, 1)):
        streamed = [caller.streamed(work_id, sequence) for sequence in range(sequences)]
        assert streamed == answers_of(caller.completed(work_id))
    scores = [float(each.scores[0]) for each in generated[:3]]
    assert scores == pytest.approx(bench.caller.completed(1).token_scores.tolist())
    kinds = [type(each).__name__ for each in bench.caller.replies]
    assert kinds.index("Completed") == 3  # after the third token of 1


def test_a_sequence_ends_where_the_model_has_no_more_positions(tmp_path: Path) -> None:
    (completed,) = Bench(tmp_path, max_tokens=10).run(make_generate(1, [5] * 7, max_new_tokens=20))
    assert completed.lengths.tolist() == [3]
    assert completed.reasons == ("length",)


def test_types_are_passed_on_where_an_input_has_them(tmp_path: Path) -> None:
    seen: list[list[int] | None] = []

    class Typed(HistoryProgram):
        def prefill(
            self, cache: list[Tensor], ids: Tensor, type_ids: Tensor | None, lengths: list[int], rows: Tensor
        ) -> Tensor:
            seen.append(None if type_ids is None else type_ids.tolist())
            return super().prefill(cache, ids, type_ids, lengths, rows)

    bench = Bench(tmp_path, Typed())
    bench.run(make_generate(1, [5, 6, 7]), make_generate(2, [5, 6], type_ids=np.array([0, 1], np.int32)))
    bench.run(make_generate(3, [5, 6]))
    assert seen == [[0, 0, 0, 0, 1], None]


def test_new_tokens_are_of_the_type_of_the_prompts_last_one(tmp_path: Path) -> None:
    seen: list[list[int] | None] = []

    class Typed(HistoryProgram):
        def step(self, *columns: Any) -> Tensor:
            seen.append(None if columns[-1] is None else columns[-1].tolist())
            return super().step(*columns)

    typed = make_generate(2, [5, 6], type_ids=np.array([0, 1], np.int32), num_beams=2, max_new_tokens=3)
    Bench(tmp_path, Typed()).run(make_generate(1, [5], max_new_tokens=2), typed)
    assert seen == [[0, 1, 1], [1, 1]]
    seen.clear()
    Bench(tmp_path, Typed(), encoder=True).run(typed)
    assert set(map(str, seen)) == {"None"}


def test_a_short_one_does_not_wait_for_a_flood_of_long_ones(tmp_path: Path) -> None:
    bench = Bench(tmp_path, cache_tokens=700, max_sequences=16)
    for number in range(20):
        bench.add(make_generate(number, [5], max_new_tokens=69))
    bench.generator.turn()
    assert bench.program.calls[-1] == ("step", 10)
    bench.add(make_generate(50, [6], max_new_tokens=3))
    for _ in range(3):
        bench.generator.turn()
    assert [each.id for each in bench.caller.replies if isinstance(each, Completed)] == [50]
    bench.finish()
    assert {each.id for each in bench.caller.replies if isinstance(each, Completed)} == {*range(20), 50}
    assert bench.generator.steps == 2 * 68


@pytest.mark.parametrize("encoder", [False, True], ids=["causal", "encoder_decoder"])
def test_whatever_comes_and_goes_the_cache_never_runs_out(tmp_path: Path, encoder: bool) -> None:
    dice = random.Random(2)
    bench = Bench(tmp_path, encoder=encoder, cache_tokens=150, max_sequences=24)
    works = some_works(20, priority=BULK) + some_works(40)
    dice.shuffle(works)
    works = [replace(work, id=number) for number, work in enumerate(works)]
    used = []
    for work in works:
        if rows_of(work) <= 150:
            bench.add(work)
        bench.generator.turn()
        used.append(bench.generator.rows.used)
    bench.finish()
    assert {type(each) for each in bench.caller.replies} == {Completed}
    assert len(bench.caller.replies) == sum(rows_of(work) <= 150 for work in works) > 50
    assert 100 < max(used) <= 150


def test_a_flood_of_bulk_work_leaves_room_for_interactive_work(tmp_path: Path) -> None:
    bench = Bench(tmp_path, cache_tokens=160, max_sequences=16)
    for number in range(40):
        bench.add(make_generate(number, [5], max_new_tokens=9, priority=BULK))
    bench.generator.turn()
    assert bench.program.calls[-1] == ("step", 12)
    bench.add(make_generate(50, [6], max_new_tokens=2))
    bench.generator.turn()
    assert [each.id for each in bench.caller.replies if isinstance(each, Completed)] == [50]
    bench.finish()
    assert {each.id for each in bench.caller.replies if isinstance(each, Completed)} == {*range(40), 50}
    assert bench.generator.rows.used == 0


def test_queue_and_compute_times_add_up(tmp_path: Path) -> None:
    bench, before = Bench(tmp_path), time.monotonic()
    bench.add(make_generate(1))
    time.sleep(0.02)
    bench.finish()
    completed = bench.caller.completed(1)
    assert completed.queue_seconds >= 0.02
    assert completed.compute_seconds > 0
    assert completed.queue_seconds + completed.compute_seconds <= time.monotonic() - before
    assert bench.computing.seconds == 0


@pytest.mark.parametrize("encoder", [False, True], ids=["causal", "encoder_decoder"])
def test_warming_up_takes_every_way_and_leaves_nothing_behind(tmp_path: Path, encoder: bool) -> None:
    program, bench = HistoryProgram(), Bench(tmp_path, encoder=encoder)
    computing = Computing(RunningRecord(tmp_path / "warming"))
    warm_up(program, bench.generator.description, computing, "cpu")
    assert program.calls[0] == ("encode_source" if encoder else "prefill", 3)
    assert max(count for _, count in program.calls) == 4
    assert computing.seconds == 0
