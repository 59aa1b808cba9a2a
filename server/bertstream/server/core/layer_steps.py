"""Compute texts layer by layer: which steps there are, which texts take them together, and what each step gives.

Texts are divided into groups, and workers take one group each at a time. Of each such group two results are held at
most, one that is sent and one that is computed meanwhile, so that who does not read stops the computation.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bertstream.server.core.computing import Terms
from bertstream.server.core.dispatch import Stepping, cut
from bertstream.server.core.dispatch.fleet import MIN_PIECE_TOKENS
from bertstream.server.core.layout import AnswerSizes
from bertstream.server.core.models import ServedModel
from bertstream.server.core.plans import WIRE_BYTES, EncodingPlan
from bertstream.workers.contract import Batch, Output, OutputOptions, Result

VECTORS: tuple[Output, ...] = ("pooled", "pooler_output", "pooled_spans")
RESULTS_HELD = 2  # of each group under way


@dataclass(frozen=True, slots=True)
class TextGroup:
    """Texts that go through the layers together."""

    first: int  # the first text's index
    batch: Batch

    @property
    def last(self) -> int:
        """The index behind the last text's."""
        return self.first + int(self.batch.lengths.size)


@dataclass(frozen=True, slots=True)
class TextGroups:
    """All texts of a call, and how many groups of them are under way at once."""

    each: Sequence[TextGroup]
    at_once: int


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step has given for a group."""

    group: TextGroup
    step: OutputOptions
    result: Result


def steps_of(output_options: OutputOptions, last_layer: int) -> list[OutputOptions]:
    """Return the worker's options for each layer; outputs of one vector a text are in a last step of their own."""
    hidden = set(output_options.hidden_layers) if "hidden_states" in output_options.outputs else set()
    attended = set(output_options.attention_layers) if "attentions" in output_options.outputs else set()
    vectors = tuple(output for output in output_options.outputs if output in VECTORS)
    if "last_hidden_state" in output_options.outputs:
        hidden.add(last_layer)
    steps = []
    for layer in sorted(hidden | attended):
        states: tuple[Output, ...] = ("hidden_states",) if layer in hidden else ()
        weights: tuple[Output, ...] = ("attentions",) if layer in attended else ()
        steps.append(
            replace(output_options, outputs=(*states, *weights), hidden_layers=(layer,), attention_layers=(layer,))
        )
    if vectors:
        steps.append(replace(output_options, outputs=vectors))
    return steps


def groups_of(plan: EncodingPlan, batch: Batch, model: ServedModel) -> TextGroups:
    """Return the groups: an even share for each live worker, but none that is too small to gain from another worker.

    All results that are held at once keep the bound on bytes, unless those of a single text exceed it. A token has a
    least cost, so that a group fits into a worker's batch.
    """
    limit = max(1, model.limits.stream_bytes // RESULTS_HELD)
    size, long = WIRE_BYTES[plan.output_options.wire_type], batch.lengths.astype(np.int64)
    sizes = AnswerSizes(0, size * model.description.hidden_size, size * len(plan.output_options.attention_heads), 0)
    of_texts, largest = sizes.of(batch.lengths, None), int(sizes.of(batch.lengths, None).max())
    at_once = max(1, min(len(model.dispatcher.live), batch.ids.size // MIN_PIECE_TOKENS, limit // max(1, largest)))
    limit = max(1, limit // at_once)
    costs = np.maximum(of_texts, -(-limit // model.dispatcher.batch_tokens) * long)
    if at_once > 1:  # with room for one more text, so that no sliver is left over for a group of its own
        limit = min(limit, -(-int(costs.sum()) // at_once) + int(costs.max()) - 1)
    return TextGroups([TextGroup(first, part) for first, part in cut(batch, limit, costs)], at_once)


class LayerSteps:
    """The steps of all groups, computed no further than their results are taken."""

    def __init__(
        self, model: ServedModel, steps: Sequence[OutputOptions], priority: int, groups: TextGroups, terms: Terms
    ) -> None:
        self._model = model
        self._steps = steps
        self._priority = priority
        self._terms = terms
        self._at_once = groups.at_once
        self._waiting = iter(groups.each)
        # Bounded by the rooms of the groups under way.
        self._arrived: asyncio.Queue[_Held | asyncio.Task[None]] = asyncio.Queue()

    async def results(self) -> AsyncGenerator[StepResult]:
        """Yield the results: of each group in the order of its steps, those of different groups as they come.

        A result is done with when the next one is asked for. Raises what the first step that fails raises.
        """
        under_way = {asyncio.create_task(self._compute_groups()) for _ in range(self._at_once)}
        for task in under_way:
            task.add_done_callback(self._ended)
        try:
            while under_way:
                arrived = await self._arrived.get()
                if isinstance(arrived, _Held):
                    yield arrived.result
                    arrived.room.release()
                else:
                    under_way.remove(arrived)
                    arrived.result()
        finally:
            for task in under_way:
                task.cancel()

    async def _compute_groups(self) -> None:
        """Compute one of the waiting groups after another, until none is left."""
        room = asyncio.Semaphore(RESULTS_HELD)
        for group in self._waiting:
            await self._compute(group, room)

    async def _compute(self, group: TextGroup, room: asyncio.Semaphore) -> None:
        texts, tokens, terms = int(group.batch.lengths.size), int(group.batch.ids.size), self._terms
        stepping = Stepping(self._model.dispatcher, group.batch, self._priority, terms.deadline, terms.caller)
        try:
            for number, step in enumerate(self._steps):
                await room.acquire()
                # A token is charged once, with the first of its layers.
                async with self._model.admission.stream(tokens, terms.caller, texts=texts, charged=number == 0):
                    result = await stepping.step(step, final=number + 1 == len(self._steps))
                self._arrived.put_nowait(_Held(StepResult(group, step, result), room))
        finally:
            stepping.close()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()  # asked for, since nobody takes it where another group has failed first
        self._arrived.put_nowait(task)


@dataclass(frozen=True, slots=True)
class _Held:
    """A result, and where its group's results are counted."""

    result: StepResult
    room: asyncio.Semaphore
