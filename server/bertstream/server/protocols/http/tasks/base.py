"""Define what the routes of all tasks share.

A body's options become those of the task's rpc, whose parser fills in the defaults and checks them, so that a task does
the same by either protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Annotated, Any, Literal, TypeVar

from msgspec import Meta, Struct
from numpy.typing import NDArray

from bertstream.server.core.errors import RequestError, Violation
from bertstream.server.core.models import Models
from bertstream.server.core.sent import SentItems
from bertstream.server.core.tasks.base import Task
from bertstream.server.core.tasks.calls import answer_items, prepare_items
from bertstream.server.core.tokenization import Side, Strategy
from bertstream.server.protocols.bertstream_v1.tasks.asked import Parse
from bertstream.server.protocols.bertstream_v1.validation.names import PRIORITIES, SIDES, STRATEGIES
from bertstream.server.protocols.enums import value_of
from bertstream.server.protocols.http.answers import HttpAnswer, dumped
from bertstream.server.protocols.http.call import HttpCall
from bertstream.server.protocols.http.choosing import chosen
from bertstream.server.protocols.http.endpoints import Endpoint
from bertstream.server.protocols.http.forms import own_form
from bertstream.server.protocols.tei_v1.choosing import Wanted
from bertstream.v1 import tokenization_pb2
from bertstream.workers.contract import BULK, INTERACTIVE
from bertstream.workers.programs.description import ModelDescription

Options = TypeVar("Options", bound=Any)  # a message of options

MOST = (1 << 31) - 1  # that messages hold
Number = Annotated[int, Meta(ge=1, le=MOST)]
Unit = Literal["code_points", "utf16_units", "utf8_bytes"]  # by the names of the client
_ADVICE = "send fewer or shorter texts"
_OPTIONS = "options"  # where a request of gRPC has what a body has beside its inputs
# What the parsers name, and what bodies have; of several that fit, the first counts.
_NAMES = (
    (f"{_OPTIONS}.truncation.strategy", "truncation"),
    (f"{_OPTIONS}.truncation.side", "truncation_side"),
    (f"{_OPTIONS}.truncation.", ""),
    (f"{_OPTIONS}.", ""),
)


class TaskRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """The part of a body that all tasks have; null stands for the default."""

    model: str = ""
    max_length: Number | None = None
    priority: Literal["interactive", "bulk"] | None = None


class CutRequest(TaskRequest, kw_only=True):
    """The part that all tasks have whose long texts are cut."""

    truncation: Strategy | bool | None = None
    truncation_side: Side | None = None


@dataclass(frozen=True, slots=True)
class TaskRoute:
    """What the route of a task does; `Any` is its own type of body in all of these functions."""

    path: str
    about: str  # one sentence, for people
    request: type[TaskRequest]
    wanted: Wanted
    options: Callable[[Any], Any]  # of a body, as the message that `parse` takes
    parse: Parse
    items: Callable[[Any, int], SentItems]  # of a body, at most so many texts; raises INVALID_ARGUMENT
    entries: Callable[[Any, Any], Sequence[Any]]  # of a body and the task's answer: what is said of each item
    example: Mapping[str, Any]  # of a body
    answer: Any  # an example

    def endpoint(self, models: Models) -> Endpoint:
        """Return the endpoint that answers by one of these models."""
        return Endpoint(
            "POST",
            self.path,
            partial(answer_task, self, models),
            own_form,
            self.about,
            self.request,
            example=self.example,
            answer=self.answer,
        )


async def answer_task(route: TaskRoute, models: Models, request: TaskRequest, call: HttpCall) -> HttpAnswer:
    """Answer with the entry of the only item, or with a list of the entries of all."""
    model = chosen(models, call, request.model, route.wanted)
    sent = replace(route.items(request, model.limits.max_texts), options=_OPTIONS)
    model.check_room(call.caller, call.deadline)

    def begin() -> tuple[Task[Any], SentItems]:
        return route.parse(route.options(request), model, INTERACTIVE, _OPTIONS).task, sent

    def write(answer: object) -> bytes:
        listed = route.entries(request, answer)
        return dumped(listed[0] if sent.single else listed)

    try:
        prepared = await prepare_items(model, begin, _ADVICE)
    except RequestError as error:
        raise _renamed(error) from None
    return HttpAnswer(((await answer_items(model, prepared, write, call)).written,))


def offset_unit_of(unit: Unit) -> tokenization_pb2.OffsetUnit.ValueType:
    """Return the unit of offsets as messages have it."""
    return tokenization_pb2.OffsetUnit.Value(f"OFFSET_UNIT_{unit.upper()}")


def with_priority(options: Options, request: TaskRequest) -> Options:
    """Return the message with the body's priority."""
    if request.priority is not None:
        options.priority = value_of(PRIORITIES, BULK if request.priority == "bulk" else INTERACTIVE)
    return options


def with_common(options: Options, request: CutRequest) -> Options:
    """Return the message with the body's priority and truncation."""
    if request.max_length is not None:
        options.truncation.max_length = request.max_length
    if request.truncation_side is not None:
        options.truncation.side = value_of(SIDES, request.truncation_side)
    if (strategy := request.truncation) is not None:
        named = {True: "longest_first", False: "refuse"}[strategy] if isinstance(strategy, bool) else strategy
        options.truncation.strategy = value_of(STRATEGIES, named)
    return with_priority(options, request)


def by_counts(values: Sequence[Any] | NDArray[Any], counts: Sequence[int]) -> list[Any]:
    """Return values that lie end to end as a list, or array, for each count: [sum(counts)], [n] -> n of them."""
    ends = [0]
    for count in counts:
        ends.append(ends[-1] + count)
    return [values[start:end] for start, end in pairwise(ends)]


def has(head: str) -> Callable[[ModelDescription], bool]:
    """Return the kind of the models with this head."""
    return lambda description: head in description.heads


def _renamed(error: RequestError) -> RequestError:
    """Return the error with the names that bodies have for options."""
    violations = tuple(
        Violation(_as_in_bodies(each.field), _as_in_bodies(each.description)) for each in error.violations
    )
    return replace(error, message=_as_in_bodies(error.message), violations=violations)


def _as_in_bodies(text: str) -> str:
    for name, ours in _NAMES:
        text = text.replace(name, ours)
    return text
