"""Generate by continuous batching: all sequences go on together, a token at a time; new ones join, ended ones leave."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from bertstream.workers.contract import FailureReason
from bertstream.workers.engine.failures import FailedComputation, attempt, halve
from bertstream.workers.generation.batching import inputs_of, step_of
from bertstream.workers.generation.cache import CacheRows
from bertstream.workers.generation.measures import GenerationMeasures, Phase
from bertstream.workers.generation.queue import GenerationQueue, Room, UnderWay, key_of
from bertstream.workers.generation.running_generation import (
    RunningGeneration,
    fail,
    refuse,
    send_completed,
    send_generated,
)
from bertstream.workers.generation.search import Choice, all_sequences, choose
from bertstream.workers.programs.description import GenerationDescription
from bertstream.workers.programs.interface import GeneratingProgram

if TYPE_CHECKING:
    from bertstream.workers.serving.running_record import Computing

Compute = Callable[[Sequence[RunningGeneration]], Sequence[Choice] | None]


class Generator:
    """Run all generations of this worker.

    Only the engine's thread calls it; other threads see only the queue.
    """

    def __init__(
        self,
        program: GeneratingProgram,
        description: GenerationDescription,
        queue: GenerationQueue,
        computing: Computing,
        *,
        batch_tokens: int,
        max_sequences: int,
        device: str = "cpu",
        measures: GenerationMeasures | None = None,
    ) -> None:
        self.queue = queue
        self._measures = measures or GenerationMeasures()
        self.rows = CacheRows(queue.cache_tokens)
        self.steps = 0
        self._program = program
        self.description = description
        self._computing = computing
        self._batch_tokens = batch_tokens
        self._max_sequences = max_sequences
        self._device = device
        self._cache = program.new_cache(queue.cache_tokens)
        self._running: list[RunningGeneration] = []

    def wake_by(self, wake: Callable[[], None]) -> None:
        """Have `wake` called when there is something to do again."""
        self.queue.arrived = wake

    @property
    def under_way(self) -> int:
        """Return how many inputs text is generated for."""
        return len(self._running)

    def turn(self) -> bool:
        """Compute one step of all generations under way, new ones included. Returns False if there is nothing to do."""
        self._drop_unwanted()
        newcomers = self._admit()
        for group in _groups(newcomers):
            self._run(group, self._begin)
        for group in _groups(self._running):
            self._run(group, self._step)
        for running in self._running:
            running.turns += 1
        if more := bool(self._running) or len(self.queue) > 0:
            return more
        self.queue.rests()
        return False

    def _drop_unwanted(self) -> None:
        """Drop generations that were cancelled, or whose deadline has passed."""
        if not self._running:
            return
        cancelled, now = self.queue.cancelled(), time.monotonic()
        for running in list(self._running):
            if key_of(running.entry) in cancelled:
                self._leave(running)
            elif running.work.deadline <= now:
                self._fail(running, "expired", "the deadline passed while tokens were generated")

    def _admit(self) -> list[RunningGeneration]:
        admission = self.queue.take(
            Room(
                self.rows.rows,
                self._max_sequences,
                self._batch_tokens,
                [UnderWay(running.entry, running.turns) for running in self._running],
            )
        )
        for entry in admission.expired:
            fail(entry, "expired", "the deadline passed while the work waited", self.queue.wait_seconds)
        for entry in admission.overloaded:
            refuse(entry, self.queue.wait_seconds)
        self._measures.joined(admission.joining, time.monotonic())
        joining = [RunningGeneration(entry, self.description, self.rows) for entry in admission.joining]
        self._running += joining
        return sorted(joining, key=lambda running: -running.work.ids.size)  # equal lengths side by side

    def _begin(self, group: Sequence[RunningGeneration]) -> Sequence[Choice] | None:
        """Compute the inputs; a decoder's prompts give their first choices too."""
        works = [running.work for running in group]
        inputs = inputs_of(works, [running.input_rows for running in group], self._device)
        columns = (inputs.ids, inputs.type_ids, inputs.lengths, inputs.rows)
        if self.description.decoder_start_token_id >= 0:
            self._program.encode_source(self._cache, *columns)
            return None
        return choose(self._program.prefill(self._cache, *columns), [running.search for running in group])

    def _step(self, group: Sequence[RunningGeneration]) -> Sequence[Choice]:
        searches = [running.search for running in group]
        sequences = all_sequences(searches)
        for sequence in sequences:
            sequence.hold(self.rows)
        step = step_of(sequences, self._device)
        logits = self._program.step(
            self._cache,
            step.ids,
            step.positions,
            step.rows,
            step.past,
            step.past_lengths,
            step.source,
            step.source_lengths,
            step.type_ids,
        )
        self.steps += 1
        return choose(logits, searches)

    def _run(self, group: Sequence[RunningGeneration], compute: Compute) -> None:
        """Compute and go on; a group that fails is computed again in halves, until what fails stands alone."""
        started = self._computing.begin((running.connection.number, running.work.id) for running in group)
        with torch.inference_mode():
            choices = attempt(lambda: compute(group), _name(group), alone=len(group) == 1)
        self._computing.end()
        if isinstance(choices, FailedComputation):
            reason = choices.reason
            halve(
                group,
                lambda half: self._run(half, compute),
                lambda running: self._fail(running, reason, "the model could not compute this"),
            )
            return
        tokens = 0 if choices is None else sum(len(choice.tokens) for choice in choices)
        phase: Phase = "prefill" if compute == self._begin else "step"
        self._measures.computed(phase, time.monotonic() - started, tokens)
        for running in group:
            running.computed(started)
        if choices is not None:
            self._advance(group, choices)

    def _advance(self, group: Sequence[RunningGeneration], choices: Sequence[Choice]) -> None:
        send_generated(group, choices)
        for running, choice in zip(group, choices, strict=True):
            running.search.advance(choice, self.rows)
            if running.search.done:
                self._leave(running)
                send_completed(running, self.queue.wait_seconds)

    def _fail(self, running: RunningGeneration, reason: FailureReason, message: str) -> None:
        self._leave(running)
        fail(running.entry, reason, message, self.queue.wait_seconds)

    def _leave(self, running: RunningGeneration) -> None:
        """Free all that a generation holds."""
        running.release(self.rows)
        self._running.remove(running)
        self.queue.left(running.entry, running.turns)


def _groups(running: Sequence[RunningGeneration]) -> list[list[RunningGeneration]]:
    """Return the groups to compute together: all at once, but each one that may kill workers by itself."""
    together = [each for each in running if not each.work.alone]
    alone = [[each] for each in running if each.work.alone]
    return [together, *alone] if together else alone


def _name(group: Sequence[RunningGeneration]) -> str:
    """Return the name of the computation for the log."""
    return f"a step of {len(group)}" if len(group) > 1 else f"generation from {group[0].work.ids.size} tokens"
