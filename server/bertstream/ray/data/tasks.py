"""A task over rows, whatever they come from: what is asked for them, and the columns of the answers."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np

from bertstream.client import AsyncClient
from bertstream.files.operations import OPERATIONS, Operation
from bertstream.files.rows import Failure, Inputs, inputs_for, items_of
from bertstream.files.schema import Column
from bertstream.files.vectors import VectorFormat
from bertstream.ray.data.asking import ask, check_options

T = TypeVar("T")
Values: TypeAlias = "tuple[Any, ...] | Failure"  # of the columns that a task reads in one row, or why there are none


class EngineFailed(Exception):
    """The server of an actor could not start; the message is one line for people."""


class Engine(Protocol):
    """What runs work with a client."""

    def begin(self, work: Callable[[AsyncClient], Coroutine[Any, Any, T]]) -> Future[T]:
        """Begin what is done with the client, and return its outcome to come. Any thread may call this.

        Raises EngineFailed.
        """


@dataclass(frozen=True, slots=True)
class Asked:
    """The items of some rows, whose outcomes are under way."""

    rows: Sequence[tuple[list[Any] | Failure, bool]]  # the items of each row, and whether its answer is a list
    outcomes: Future[list[Any]]  # of all items in order


@dataclass(frozen=True, slots=True)
class Answered:
    """The answers to some rows, None for those that failed."""

    answers: Sequence[Any]
    failures: Mapping[int, Failure]  # by the row


@dataclass(frozen=True, slots=True)
class RowTask:
    """One of the SDK's tasks, by its name, with the columns that it reads and its options. It travels to actors."""

    name: str
    inputs: Inputs
    options: Mapping[str, Any] = field(default_factory=dict)
    stored: VectorFormat = field(default_factory=VectorFormat)

    @property
    def operation(self) -> Operation:
        """What the task reads and gives."""
        return OPERATIONS[self.name]

    def begin(self, engine: Engine, rows: Sequence[Values]) -> Asked:
        """Begin to ask for rows."""
        made = [self._items(row) for row in rows]
        items = [item for given, _ in made if not isinstance(given, Failure) for item in given]
        return Asked(made, engine.begin(lambda client: ask(client, self.name, items, self.options)))

    def finish(self, asked: Asked) -> Answered:
        """Return the answers once they are there.

        Raises the SDK's exceptions where the request as a whole is wrong, and whatever kept the engine from starting.
        """
        rest, answers, failures = iter(asked.outcomes.result()), list[Any](), dict[int, Failure]()
        for row, (given, several) in enumerate(asked.rows):
            own = [given] if isinstance(given, Failure) else [next(rest) for _ in given]
            failure = next((each for each in own if isinstance(each, Failure)), None)
            if failure is not None:
                failures[row] = failure
            answers.append(None if failure is not None else own if several else own[0])
        return Answered(answers, failures)

    def columns(self, engine: Engine, answers: Sequence[Any]) -> list[Column]:
        """Return the columns of answers, whose types are the same for any rows."""
        columns_of = self.operation.columns
        if not self.operation.vectors or any(answer is not None for answer in answers):
            return columns_of(answers, self.options, self.stored)
        # No vector tells how long vectors are, but the model does.
        stand_in = engine.begin(lambda client: _stand_in(client, self.name, self.options)).result()
        made = columns_of([*answers, stand_in], self.options, self.stored)
        return [_first(column, len(answers)) for column in made]

    def _items(self, row: Values) -> tuple[list[Any] | Failure, bool]:
        if isinstance(row, Failure):
            return row, False
        texts = self.inputs.texts(row)
        return items_of(self.operation, texts), self.operation.several and isinstance(texts[-1], list)


def row_task(
    name: str,
    columns: Sequence[str] = (),
    *,
    first: str | None = None,
    second: str | None = None,
    stored: VectorFormat | None = None,
    options: Mapping[str, Any] | None = None,
) -> RowTask:
    """Return the task of this name, such as "encode" or "classify".

    columns: those that it reads, by default those that the task's inputs are called. first, second: a text that is the
    same for all rows, in place of a column, such as a query. Raises ValueError or TypeError for what there is not.
    """
    if name not in OPERATIONS:
        raise ValueError(f"task must be one of {', '.join(OPERATIONS)}, not {name!r}")
    inputs = inputs_for(OPERATIONS[name], columns, first, second)
    given = {option: value for option, value in (options or {}).items() if value is not None}
    check_options(name, given)
    return RowTask(name, inputs, given, stored or VectorFormat())


async def _stand_in(client: AsyncClient, name: str, options: Mapping[str, Any]) -> Any:
    """Return an answer to "encode" or "encode_multi" that has the model's width."""
    if name == "encode":
        none = await client.encode([], **options)
        return np.zeros(none.shape[1], none.dtype)
    described = (await client.model(options.get("model", ""))).multi_vector
    return np.zeros((0, 0 if described is None else described.dimensions), np.float32)


def _first(column: Column, rows: int) -> Column:
    return Column(column.field, column.values[:rows], None if column.valid is None else column.valid[:rows])
