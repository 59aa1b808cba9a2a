"""Test that steps of a session give what one pass gives, whatever has been forgotten between them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from bertstream.workers.contract import Batch, OutputOptions, Pooling, Spans, Work
from bertstream.workers.engine.batch import prepare
from bertstream.workers.engine.engine import run
from bertstream.workers.engine.sessions import Reached, Sessions
from bertstream.workers.programs.program import ScriptedProgram
from tests.support.pairs import Pair

LAST = 5
SOURCE = object()
LENGTHS = [7, 3, 12, 3]
BATCH = Batch(
    np.arange(8, 8 + sum(LENGTHS), dtype=np.int32),
    np.array(LENGTHS, np.int32),
    spans=Spans(*(np.array(column, np.int32) for column in ([1, 0, 2, 1], [2, 0, 11, 0], [3, 12, 1, 3]))),
)


@pytest.fixture(scope="module")
def program(pair: Callable[..., Pair]) -> ScriptedProgram:
    return pair("bert").program


def all_of(outputs: tuple[str, ...], **output_options: object) -> OutputOptions:
    return OutputOptions(outputs, **output_options)  # type: ignore[arg-type]


def at_once(program: ScriptedProgram, output_options: OutputOptions) -> dict[str, torch.Tensor]:
    (found,) = run(program, prepare([Work(1, BATCH, output_options)], LAST))
    return found


def step(
    program: ScriptedProgram, sessions: Sessions, output_options: OutputOptions, *, final: bool
) -> dict[str, torch.Tensor]:
    work = Work(1, BATCH, output_options, session=9, final=final)
    sessions.begin(SOURCE, 9)
    (found,) = run(program, prepare([work], LAST), sessions, [(SOURCE, 9)])
    return found


STEPS = (
    all_of(("hidden_states",), hidden_layers=(0,)),
    all_of(("attentions",), attention_layers=(2,), attention_heads=(2, 0)),
    all_of(("hidden_states", "attentions"), hidden_layers=(4,), attention_layers=(4,), attention_heads=(1,)),
    all_of(("pooled", "pooler_output", "pooled_spans"), pooling=Pooling("mean", (1, LAST))),
)


@pytest.mark.parametrize("limit", [0, 1 << 30])
@pytest.mark.parametrize("forgets", [False, True])
def test_steps_equal_one_pass(program: ScriptedProgram, limit: int, forgets: bool) -> None:
    sessions = Sessions(limit)
    for number, output_options in enumerate(STEPS):
        if forgets:
            sessions.forget(SOURCE, [9])
        found = step(program, sessions, output_options, final=number == len(STEPS) - 1)
        expected = at_once(program, output_options)
        assert list(found) == list(expected)
        for name, values in expected.items():
            torch.testing.assert_close(found[name], values, atol=1e-6, rtol=1e-5)
    assert sessions.size == 0  # the final step leaves nothing


def test_a_step_goes_on_from_where_the_one_before_has_come(program: ScriptedProgram) -> None:
    """Spoil what is kept, so that what follows from it is spoilt too."""
    sessions = Sessions(1 << 30)
    step(program, sessions, STEPS[0], final=False)
    reached = sessions.get((SOURCE, 9))
    assert reached is not None
    assert reached.layer == 0
    sessions.put((SOURCE, 9), Reached(0, torch.full_like(reached.states, torch.nan)))
    assert step(program, sessions, STEPS[2], final=True)["hidden_states.4"].isnan().all()


def test_the_oldest_is_forgotten_first_and_connections_take_theirs_along() -> None:
    sessions, other = Sessions(100), object()
    for number in (1, 2, 3):
        sessions.begin(SOURCE, number)
        sessions.put((SOURCE, number), Reached(0, torch.zeros(10)))  # 40 bytes each
    assert [sessions.get((SOURCE, number)) is not None for number in (1, 2, 3)] == [False, True, True]
    sessions.begin(other, 2)
    sessions.put((other, 2), Reached(0, torch.zeros(1)))
    sessions.forget_all(SOURCE)
    assert sessions.get((SOURCE, 3)) is None
    assert sessions.get((other, 2)) is not None
    sessions.forget(other, [2, 77])
    assert sessions.size == 0


def test_attention_of_mixed_output_options_in_one_batch(program: ScriptedProgram) -> None:
    """Works that want other layers and heads, or none, share a batch and get what each gets alone."""
    output_options = (
        all_of(("attentions",), attention_layers=(1, 3), attention_heads=(0, 1, 2)),
        all_of(("pooled",), pooling=Pooling("cls", (LAST,))),
        all_of(("attentions", "last_hidden_state"), attention_layers=(2, 3), attention_heads=(2,)),
    )
    found = run(program, prepare([Work(i, BATCH, each) for i, each in enumerate(output_options)], LAST))
    for each, outputs in zip(output_options, found, strict=True):
        for name, values in at_once(program, each).items():
            torch.testing.assert_close(outputs[name], values, atol=1e-6, rtol=1e-5)
    first = found[0]["attentions.1"]
    assert first.shape == (sum(3 * n * n for n in LENGTHS),)
    start = 0
    for n in LENGTHS:
        rows = first[start : start + 3 * n * n].reshape(3, n, n)
        torch.testing.assert_close(rows.sum(-1), torch.ones(3, n))
        start += 3 * n * n


def test_attention_in_int8_has_a_scale_for_each_row(program: ScriptedProgram) -> None:
    output_options = all_of(("attentions",), attention_layers=(1,), attention_heads=(0, 2))
    exact = at_once(program, output_options)["attentions.1"]
    coarse = at_once(program, all_of(("attentions",), attention_layers=(1,), attention_heads=(0, 2), wire_type="int8"))
    scales = coarse["attentions.1.scales"]
    assert scales.shape == (sum(2 * n for n in LENGTHS),)
    widths = torch.tensor([n for n in LENGTHS for _ in range(2 * n)])
    torch.testing.assert_close(
        coarse["attentions.1"].float() * scales.repeat_interleave(widths), exact, atol=5e-3, rtol=0.0
    )


@pytest.mark.parametrize("ends", [lambda s: s.forget(SOURCE, [9]), lambda s: s.forget_all(SOURCE)])
def test_a_step_whose_caller_goes_while_it_is_computed_leaves_nothing(ends: Callable[[Sessions], None]) -> None:
    sessions = Sessions(1 << 30)
    sessions.begin(SOURCE, 9)
    ends(sessions)
    sessions.put((SOURCE, 9), Reached(1, torch.zeros(10)))
    assert sessions.size == 0
