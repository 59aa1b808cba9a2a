"""The cost of answers: usage and timings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from bertstream.v1 import generation_pb2 as generation
from bertstream.v1 import types_pb2 as types


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer cost."""

    texts: int
    tokens: int
    """All tokens, including special and generated ones."""
    truncated_texts: int
    """Texts that were cut to the maximum length."""
    generated_tokens: int = 0
    """How many of `tokens` were generated, in all answers."""


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time went, in seconds; None for what the server did not report."""

    tokenize: float | None
    queue: float | None
    """Waiting for a worker."""
    compute: float | None
    """In the model, as a member of its batch."""
    total: float | None
    """From the message's arrival at the server to its answer's departure."""


class Cost(NamedTuple):
    """The usage and timings of one message, or of several."""

    usage: Usage
    timings: Timings


NO_COST = Cost(Usage(0, 0, 0), Timings(None, None, None, None))


def cost_of(message: Any) -> Cost:
    """Return the cost of a message that has `usage` and `timings`."""
    return Cost(usage_of(message.usage), timings_of(message.timings))


def usage_of(message: types.Usage | generation.GenerationUsage) -> Usage:
    """Return the Usage that a message reports."""
    if isinstance(message, generation.GenerationUsage):
        tokens = message.input_tokens + message.generated_tokens
        return Usage(message.inputs, tokens, message.truncated_inputs, message.generated_tokens)
    return Usage(message.texts, message.tokens, message.truncated_texts)


def timings_of(message: types.Timings) -> Timings:
    """Return the Timings, in seconds, that a message reports."""
    seconds = {field.name: duration.ToNanoseconds() / 1e9 for field, duration in message.ListFields()}
    return Timings(*(seconds.get(field.name) for field in fields(Timings)))


def joined_cost(costs: Iterable[Cost]) -> Cost:
    """Return the sum of the usages and the slowest of each timing, since messages are computed side by side."""
    listed = list(costs)
    usages, timings = [cost.usage for cost in listed], [cost.timings for cost in listed]
    usage = Usage(*(sum(getattr(each, field.name) for each in usages) for field in fields(Usage)))
    return Cost(usage, Timings(*(_slowest(getattr(each, field.name) for each in timings) for field in fields(Timings))))


def _slowest(seconds: Iterable[float | None]) -> float | None:
    return max((each for each in seconds if each is not None), default=None)
