"""What differs between the rpcs that are bulk streams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

from bertstream.client._errors import RpcError
from bertstream.client._reports import EffectiveOptions
from bertstream.client._texts import Group, PreparedText
from bertstream.client._usage import Cost
from bertstream.v1 import types_pb2 as types

V = TypeVar("V")  # the answer for one item
B = TypeVar("B", covariant=True)  # what the caller gets


class Started(NamedTuple):
    """The server's first answer: how many items may be under way, and the options in effect."""

    max_items: int
    options: EffectiveOptions | None = None


@dataclass(slots=True)
class Answers:
    """The parts of an answer message."""

    pieces: list[tuple[int, Any]]
    errors: Sequence[types.ItemError] = ()
    cost: Cost | None = None  # if the message reports it; for a text in several messages only the last does
    more: bool = False  # the message has a single item, which continues in a later message


class Codec(Protocol[V, B]):
    """The part of a stream that differs between the streaming rpcs."""

    typical_bytes: int
    """An estimate, before the first answer, of the memory that an answer takes; 0 if answers are small."""

    def options(self) -> Any:
        """Return the stream's first request."""

    def prepare(self, text: object, index: int) -> PreparedText:
        """Return a caller's text, which has this index in the input, prepared for sending."""

    def request(self, group: Group) -> Any:
        """Return a request with texts; the group's indexes are their ids."""

    def parse(self, response: Any) -> Started | Answers:
        """Return the content of a response."""

    def joined(self, pieces: list[Any]) -> V:
        """Return one item's answer, from all pieces that the messages had of it."""

    def bytes_of(self, answer: V) -> int:
        """Return how much memory an answer takes; 0 if answers are small."""

    def batch(self, ids: list[int], outcomes: list[V | RpcError], cost: Cost) -> B:
        """Return what the caller gets for these items."""
