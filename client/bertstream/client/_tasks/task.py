"""What calls and streams need to know of a task head; each head has its own file, which makes a Task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from bertstream.client._errors import unexpected_response
from bertstream.client._tasks.items import Prepare
from bertstream.client._tasks.reports import EffectiveTaskOptions, effective_task_options
from bertstream.client._texts import Group
from bertstream.v1 import tasks_pb2 as tasks

R = TypeVar("R")


def _nothing(message: Any) -> dict[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class Task(Generic[R]):
    """A task with its options. Its rpc and its fields in messages follow from the types of its messages."""

    options: Any
    """The message with the options, of a type that no other task has."""
    request_type: type[Message]
    """The message of a unary call, with `options` and `inputs`."""
    answers_type: type[Message]
    """The message that has the answers to several items, as columns."""
    prepare: Prepare
    decode: Callable[[Any, int], list[R]]
    """Takes a message of columns and the number of its items, and returns the answer for each. Raises Internal if the
    columns make no sense, or do not fit that number."""
    inputs: Callable[[Group], Any] = Group.batch
    """The `inputs` of a unary request."""
    field: str = "inputs"
    """The field of PredictionItems that has the items."""
    renamed: Callable[[Any], Mapping[str, Any]] = _nothing
    """Returns the options of a message whose keyword arguments have other names than its fields."""

    @property
    def rpc(self) -> str:
        """The unary rpc."""
        return self.request_type.DESCRIPTOR.name.removesuffix("Request")

    def request(self, group: Group) -> Any:
        """Return a unary request."""
        return self.request_type(options=self.options, inputs=self.inputs(group))

    def answers(self, response: Any, items: int) -> list[R]:
        """Return the answer of a unary response for each of its items."""
        return self.decode(getattr(response, field_of(type(response), self.answers_type)), items)

    def effective(self, options: Any) -> EffectiveTaskOptions:
        """Return the options that the server reports."""
        return effective_task_options(options, self.renamed(options))

    def first_request(self) -> tasks.StreamPredictionsRequest:
        """Return the request that opens a stream."""
        options: Any = {self._option: self.options}
        return tasks.StreamPredictionsRequest(options=tasks.PredictionOptions(**options))

    def items(self, group: Group, **ids: Any) -> tasks.StreamPredictionsRequest:
        """Return the request that sends items over a stream."""
        content: Any = {self.field: group.batch() if self.field == "inputs" else self.inputs(group)}
        return tasks.StreamPredictionsRequest(items=tasks.PredictionItems(**ids, **content))

    def started(self, message: tasks.PredictionStarted) -> EffectiveTaskOptions:
        """Return the options that the server reports for a stream."""
        return self.effective(getattr(message.options, self._option))

    def predictions(self, message: tasks.PredictedItems) -> list[R]:
        """Return the answer of a stream's message for each of its items."""
        field = message.WhichOneof("predictions")
        if not message.ids and field is None:
            return []
        if field != field_of(tasks.PredictedItems, self.answers_type):
            raise unexpected_response(f"{field} in a stream of {self._option}")
        return self.decode(getattr(message, field), len(message.ids))

    @property
    def _option(self) -> str:
        return field_of(tasks.PredictionOptions, type(self.options))


def field_of(message: type[Message], kind: type[Message]) -> str:
    """Return the name of the field of one type of message that holds messages of another type."""
    for field in message.DESCRIPTOR.fields:
        if field.message_type is not None and field.message_type.full_name == kind.DESCRIPTOR.full_name:
            return field.name
    raise TypeError(f"{message.DESCRIPTOR.full_name} has no place for {kind.DESCRIPTOR.full_name}")
