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

from msgspec import Meta
from numpy.typing import NDArray

from bertstream.server.core.models import Models
from bertstream.server.core.sent import SentItems
from bertstream.server.core.tasks.base import Task
from bertstream.server.core.tasks.calls import answer_items, prepare_items
from bertstream.server.protocols.bertstream_v1.tasks.asked import Parse
from bertstream.server.protocols.http.answers import HttpAnswer, dumped
from bertstream.server.protocols.http.call import HttpCall
from bertstream.server.protocols.http.choosing import chosen
from bertstream.server.protocols.http.common_options import (
    MOST,
    CutRequest,
    OwnRequest,
    named_as_in_body,
    priority_of,
    truncation_of,
)
from bertstream.server.protocols.http.endpoints import Endpoint
from bertstream.server.protocols.http.forms import own_form
from bertstream.server.protocols.tei_v1.choosing import Wanted
from bertstream.v1 import tokenization_pb2
from bertstream.workers.contract import INTERACTIVE
from bertstream.workers.programs.description import ModelDescription

Options = TypeVar("Options", bound=Any)  # a message of options

Number = Annotated[int, Meta(ge=1, le=MOST)]
Unit = Literal["code_points", "utf16_units", "utf8_bytes"]  # by the names of the client
_ADVICE = "send fewer or shorter texts"
_OPTIONS = "options"  # where a request of gRPC has what a body has beside its inputs


@dataclass(frozen=True, slots=True)
class TaskRoute:
    """What the route of a task does; `Any` is its own type of body in all of these functions."""

    path: str
    about: str  # one sentence, for people
    request: type[OwnRequest]
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


async def answer_task(route: TaskRoute, models: Models, request: OwnRequest, call: HttpCall) -> HttpAnswer:
    """Answer with the entry of the only item, or with a list of the entries of all."""
    model = chosen(models, call, request.model, route.wanted)
    sent = replace(route.items(request, model.limits.max_texts), options=_OPTIONS)
    model.check_room(call.caller, call.deadline)

    def begin() -> tuple[Task[Any], SentItems]:
        return route.parse(route.options(request), model, INTERACTIVE, _OPTIONS).task, sent

    def write(answer: object) -> bytes:
        listed = route.entries(request, answer)
        return dumped(listed[0] if sent.single else listed)

    with named_as_in_body():
        prepared = await prepare_items(model, begin, _ADVICE)
    return HttpAnswer(((await answer_items(model, prepared, write, call)).written,))


def offset_unit_of(unit: Unit) -> tokenization_pb2.OffsetUnit.ValueType:
    """Return the unit of offsets as messages have it."""
    return tokenization_pb2.OffsetUnit.Value(f"OFFSET_UNIT_{unit.upper()}")


def with_priority(options: Options, request: OwnRequest) -> Options:
    """Return the message with the body's priority."""
    options.priority = priority_of(request)
    return options


def with_common(options: Options, request: CutRequest) -> Options:
    """Return the message with the body's priority and truncation. Raises INVALID_RANGE."""
    options.truncation.MergeFrom(truncation_of(request))
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
