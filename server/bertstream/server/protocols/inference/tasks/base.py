"""Define what all kinds of tasks share."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from bertstream.server.core.callers import Caller
from bertstream.server.core.computing import check_answer_size
from bertstream.server.core.dispatch import Outcome
from bertstream.server.core.errors import deadline_exceeded
from bertstream.server.core.models import ServedModel
from bertstream.server.core.tasks.calls import PreparedItems, answer_items
from bertstream.server.protocols.call import Call
from bertstream.server.protocols.inference.inputs import Given
from bertstream.server.protocols.inference.options import Options
from bertstream.server.protocols.inference.tensors import Array, Spec, least_bytes
from bertstream.workers.contract import INTERACTIVE
from bertstream.workers.programs.description import ModelDescription


@dataclass(frozen=True, slots=True)
class InferTurn:
    """Hold what is known of one request, such as the model that answers it; it is the terms of its work, too."""

    model: ServedModel
    call: Call
    arrived: float  # time.monotonic()
    timeout_seconds: float = field(default=math.inf, kw_only=True)
    priority: int = field(default=INTERACTIVE, kw_only=True)  # of a request that says nothing of it
    waits: bool = field(default=False, kw_only=True)  # for room, as requests of streams do

    @property
    def caller(self) -> Caller:
        """Return who asks."""
        return self.call.caller

    @property
    def deadline(self) -> float:
        """Return until when the work makes sense, of time.monotonic()."""
        return min(self.call.deadline, self.arrived + self.timeout_seconds)

    def check_deadline(self) -> None:
        """Raise DEADLINE_EXCEEDED when the deadline is over."""
        self.call.check_deadline()
        if self.timeout_seconds < math.inf and time.monotonic() >= self.deadline:
            raise deadline_exceeded()

    def check_room(self) -> None:
        """Raise QUOTA_EXCEEDED or OVERLOADED, before any work, for a request that does not wait for room."""
        if not self.waits:
            self.model.check_room(self.caller, self.deadline)


@dataclass(frozen=True, slots=True)
class AskedTensors:
    """Hold a request whose names make sense: its inputs, its options and the outputs that it wants."""

    given: Given
    options: Options
    outputs: tuple[Spec, ...]
    classes: Mapping[str, int]  # of outputs whose best labels are wanted in place of their numbers: how many

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the outputs."""
        return tuple(spec.name for spec in self.outputs)


@dataclass(frozen=True, slots=True)
class ComputedTensors:
    """Hold outputs by their names."""

    arrays: Mapping[str, Array]
    outcomes: Sequence[Outcome]  # for their times


@dataclass(frozen=True, slots=True)
class Work:
    """Hold what is left to do for a request that was prepared."""

    texts: int
    cost: int  # of a stream's window, in tokens
    tokenize_seconds: float
    compute: Callable[[], Awaitable[ComputedTensors]]  # raises RequestError


def check_size(specs: Sequence[Spec], turn: InferTurn, texts: int, width: int) -> None:
    """Raise REQUEST_TOO_LARGE where these outputs, padded to `width` tokens, would be too large for a response."""
    size = least_bytes(specs, texts, width)
    check_answer_size(size, turn.model.limits, "outputs", ADVICE)


def window_cost(specs: Sequence[Spec], turn: InferTurn, texts: int, width: int, tokens: int) -> int:
    """Return what a request takes of a stream's window, in tokens: more where its padded outputs are large for that."""
    limits = turn.model.limits
    return max(tokens, least_bytes(specs, texts, width) * limits.stream_tokens // limits.stream_bytes)


def work_of(
    asked: AskedTensors,
    turn: InferTurn,
    prepared: PreparedItems,
    width: int,
    write: Callable[[Any], Mapping[str, Array]],
) -> Work:
    """Return the work on items of a task, whose answer `write` turns into outputs in a thread.

    Raises REQUEST_TOO_LARGE where the outputs, padded to `width`, would be too large for a response.
    """
    check_size(asked.outputs, turn, prepared.items, width)

    async def compute() -> ComputedTensors:
        answered = await answer_items(turn.model, prepared, write, turn, waits=turn.waits)
        return ComputedTensors(answered.written, answered.outcomes)

    cost = window_cost(asked.outputs, turn, prepared.items, width, prepared.tokens)
    return Work(prepared.items, cost, prepared.tokenize_seconds, compute)


ADVICE = "send fewer texts, or name fewer outputs"  # where a response would be too large


class InferTask(Protocol):
    """Give some outputs; a request has those of one task."""

    @property
    def parameters(self) -> frozenset[str]:
        """Return the names of its parameters, besides those of every request."""

    def reads_pairs(self, description: ModelDescription) -> bool:
        """Return whether a usual request has pairs of texts."""

    def outputs(self, description: ModelDescription) -> Sequence[Spec]:
        """Return the outputs that it gives of a model; none where the model is not for it."""

    def defaults(self, description: ModelDescription) -> Sequence[str]:
        """Return the names of the outputs of a request that names none."""

    async def prepare(self, asked: AskedTensors, turn: InferTurn) -> Work:
        """Do what comes before the work. Raises RequestError where there can be no answer."""
