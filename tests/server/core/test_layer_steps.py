"""How a stream of layers is cut into steps and groups of texts, and how far the groups are computed ahead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bertstream.server.core import layer_steps
from bertstream.server.core.errors import RequestError, internal
from bertstream.server.core.layer_steps import (
    RESULTS_HELD,
    LayerSteps,
    StepResult,
    TextGroup,
    TextGroups,
    groups_of,
    steps_of,
)
from bertstream.server.protocols.bertstream_v1.validation.encoding import parse_encoding
from bertstream.v1 import encoding_pb2 as e
from bertstream.workers.contract import INTERACTIVE, Batch, OutputOptions, Pooling, Result
from tests.server.protocols.bertstream_v1.validation.support import description

LAST = 5


def batch_of(lengths: list[int]) -> Batch:
    return Batch(np.zeros(sum(lengths), np.int32), np.array(lengths, np.int32))


def model_of(workers: int, batch_tokens: int = 100_000, stream_bytes: int = 200_000) -> Any:
    return SimpleNamespace(
        limits=SimpleNamespace(stream_bytes=stream_bytes),
        description=description(),
        dispatcher=SimpleNamespace(batch_tokens=batch_tokens, live=[None] * workers),
        admission=SimpleNamespace(stream=_admitted),
    )


@asynccontextmanager
async def _admitted(*_: object, **__: object) -> AsyncIterator[None]:
    yield


def groups_for(lengths: list[int], model: Any, *, weights: bool = False) -> TextGroups:
    outputs = [e.ENCODING_OUTPUT_HIDDEN_STATES, *([e.ENCODING_OUTPUT_ATTENTIONS] if weights else [])]
    plan = parse_encoding(e.EncodingOptions(outputs=outputs), "mine", description(), INTERACTIVE)
    return groups_of(plan, batch_of(lengths), model)


def bytes_of(lengths: Sequence[int], *, weights: bool = False) -> int:
    long = np.array(lengths, np.int64)
    return int((4 * 36 * long + (3 * 4 * long * long if weights else 0)).sum())


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("batch_tokens", [100, 100_000])
@pytest.mark.parametrize("workers", [0, 1, 2, 30])
def test_all_results_that_are_held_fit_the_bound_on_bytes(weights: bool, batch_tokens: int, workers: int) -> None:
    lengths = [100] * 20 + [10] * 50 + [1] * 30
    groups = groups_for(lengths, model_of(workers, batch_tokens), weights=weights)
    assert 1 <= groups.at_once <= max(1, workers)
    assert [length for group in groups.each for length in group.batch.lengths.tolist()] == lengths
    assert [group.first for group in groups.each[1:]] == [group.last for group in groups.each[:-1]]
    for group in groups.each:
        size = RESULTS_HELD * groups.at_once * bytes_of(group.batch.lengths.tolist(), weights=weights)
        of_one_text = group.batch.lengths.size == 1
        assert size <= 200_000 or (of_one_text and groups.at_once == 1)
        assert group.batch.ids.size <= batch_tokens or of_one_text
    assert len(groups.each) < len(lengths)


@pytest.mark.parametrize(
    ("lengths", "workers", "expected"),
    [
        ([128] * 16, 1, [16]),
        ([128] * 16, 2, [8, 8]),
        ([128] * 16, 8, [4, 4, 4, 4]),  # a group of less than 512 tokens gains nothing
        ([128] * 4, 8, [4]),
        ([500, 1], 8, [2]),
        ([500] * 3, 2, [2, 1]),
    ],
)
def test_each_worker_gets_an_even_share(lengths: list[int], workers: int, expected: list[int]) -> None:
    groups = groups_for(lengths, model_of(workers, stream_bytes=1 << 30))
    assert [group.batch.lengths.size for group in groups.each] == expected
    assert groups.at_once == len(expected)


def test_texts_that_exceed_the_bound_on_bytes_are_computed_one_after_another() -> None:
    groups = groups_for([1000] * 4, model_of(4, stream_bytes=100_000))
    assert (len(groups.each), groups.at_once) == (4, 1)


def test_steps_go_from_layer_to_layer_and_end_with_the_vectors() -> None:
    output_options = OutputOptions(
        ("pooled", "hidden_states", "attentions", "last_hidden_state"),
        Pooling("mean", (1, 5)),
        hidden_layers=(0, 3),
        attention_layers=(2, 3),
        attention_heads=(1,),
    )
    steps = steps_of(output_options, LAST)
    assert [step.outputs for step in steps] == [
        ("hidden_states",),
        ("attentions",),
        ("hidden_states", "attentions"),
        ("hidden_states",),
        ("pooled",),
    ]
    assert [step.hidden_layers for step in steps[:4:3]] == [(0,), (LAST,)]
    assert steps[1].attention_layers == (2,)


class Computed:
    """What is asked of workers, in place of Stepping."""

    def __init__(self, fails_at: tuple[int, int] | None = None) -> None:
        self.steps: list[tuple[int, int, bool]] = []  # texts of the group, layer, final
        self.closed: list[int] = []
        self._fails_at = fails_at

    def stepping(self, _: object, batch: Batch, *__: object) -> Any:
        texts = int(batch.lengths.size)

        async def step(output_options: OutputOptions, *, final: bool) -> Result:
            await asyncio.sleep(0)
            (layer,) = output_options.hidden_layers
            self.steps.append((texts, layer, final))
            if (texts, layer) == self._fails_at:
                raise internal()
            return Result(0, {}, 0.0, 0.0)

        return SimpleNamespace(step=step, close=lambda: self.closed.append(texts))


def three_groups() -> TextGroups:
    """Return groups of one, two and three texts, of which two are under way at once."""
    return TextGroups(
        [TextGroup(0, batch_of([1])), TextGroup(1, batch_of([1, 1])), TextGroup(3, batch_of([1, 1, 1]))], 2
    )


def layer_steps_of(layers: int, groups: TextGroups) -> LayerSteps:
    steps = [OutputOptions(("hidden_states",), hidden_layers=(layer,)) for layer in range(layers)]
    terms: Any = SimpleNamespace(deadline=1.0, caller=None)
    return LayerSteps(model_of(2), steps, INTERACTIVE, groups, terms)


async def take_all(layers: LayerSteps) -> list[StepResult]:
    async with aclosing(layers.results()) as results:
        return [each async for each in results]


async def settle() -> None:
    """Let all that can go on go on."""
    for _ in range(100):
        await asyncio.sleep(0)


async def test_groups_are_computed_side_by_side_and_all_results_come(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = Computed()
    monkeypatch.setattr(layer_steps, "Stepping", computed.stepping)
    found = [
        (each.group.first, each.step.hidden_layers[0]) async for each in layer_steps_of(4, three_groups()).results()
    ]
    for first in (0, 1, 3):
        assert [layer for group, layer in found if group == first] == [0, 1, 2, 3]
    assert len(found) == 12
    assert {first for first, _ in found[:2]} == {0, 1}
    assert [texts for texts, _, final in computed.steps if final] == computed.closed
    assert sorted(computed.closed) == [1, 2, 3]


async def test_who_takes_no_results_stops_the_computation(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = Computed()
    monkeypatch.setattr(layer_steps, "Stepping", computed.stepping)
    async with aclosing(layer_steps_of(9, three_groups()).results()) as results:
        taken = 0
        async for _ in results:
            taken += 1
            await settle()
            assert len(computed.steps) <= 2 * RESULTS_HELD + taken - 1  # the one that was taken last is held, too
            if taken == 6:
                break
        reached = len(computed.steps)
        assert reached == 2 * RESULTS_HELD + taken - 1
    await settle()
    assert len(computed.steps) == reached
    assert sorted(computed.closed) == [1, 2]  # the third group was not begun


async def test_a_group_that_fails_ends_all(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = Computed(fails_at=(2, 1))
    monkeypatch.setattr(layer_steps, "Stepping", computed.stepping)
    with pytest.raises(RequestError):
        await take_all(layer_steps_of(50, three_groups()))
    await settle()
    assert sorted(computed.closed) == [1, 2]
    assert len(computed.steps) < 50
