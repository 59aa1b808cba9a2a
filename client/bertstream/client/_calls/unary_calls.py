"""Operations: what a method of a client does, without doing any I/O.

An operation is a generator: it yields `Calls` for the client to make, is resumed when all are answered (or gets the
exception of the first that failed), and returns the method's value. The synchronous and the asynchronous client run
the same operations.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from bertstream.client._errors import RpcError, unexpected_response, with_callers_indexes
from bertstream.client._texts import INPUTS, Group, MessageLimits, PreparedText, check_size, cut

T = TypeVar("T")


@dataclass(slots=True)
class Calls:
    """Unary calls of one rpc, to be made with several under way, their answers taken in order."""

    rpc: str
    requests: Iterable[Any]
    take: Callable[[int, Any], object]
    patient: bool = False  # without a time limit, unless the caller gives one
    explain: Callable[[int, RpcError], RpcError] = field(default=lambda _, error: error)

    def answered(self, number: int, answer: Any) -> None:
        """Take the answer to the request of this number. Raises Internal where it makes no sense."""
        if answer is None:  # gRPC's, of a call that ended well without a message
            raise unexpected_response("a call that ended well without an answer")
        self.take(number, answer)


Operation: TypeAlias = Generator[Calls, None, T]


def name_of(operation: Operation[Any]) -> str:
    """Return the name of the function that made an operation: `encode`."""
    name: str = operation.__name__  # type: ignore[attr-defined]  # which every generator has
    return name


def call(rpc: str, request: Any, patient: bool = False) -> Operation[Any]:
    """Make one call and return its answer."""
    answers: list[Any] = []
    yield Calls(rpc, [request], lambda _, answer: answers.append(answer), patient)
    return answers[0]


def fan_out(
    rpc: str,
    prepared: Sequence[PreparedText],
    limits: MessageLimits,
    request: Callable[[Group], Any],
    take: Callable[[Group, Any], None],
    root: str = INPUTS,
) -> Calls:
    """Return the calls for all texts, in messages within the limits."""
    for index, text in enumerate(prepared):
        check_size(text, limits, index, root)
    under_way: dict[int, Group] = {}

    def requests() -> Iterator[Any]:
        for number, group in enumerate(cut(enumerate(prepared), limits)):
            under_way[number] = group
            yield request(group)

    return Calls(
        rpc,
        requests(),
        lambda number, answer: take(under_way.pop(number), answer),
        explain=lambda number, error: with_callers_indexes(error, _index_in(under_way[number].indexes)),
    )


def _index_in(indexes: Sequence[int]) -> Callable[[int], int]:
    """Return a function from an index in a message to the index in the caller's list."""
    return lambda index: indexes[index] if index < len(indexes) else index
