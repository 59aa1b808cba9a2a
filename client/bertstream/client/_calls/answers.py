"""What the messages of most bulk streams have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bertstream.client._errors import RpcError, unexpected_response
from bertstream.client._texts import ITEMS, Group, PreparedText, prepare
from bertstream.client._types import ItemError


class SmallAnswers:
    """The part of a codec that most streams share: texts without spans, and answers in one piece."""

    typical_bytes = 0

    def prepare(self, text: object, index: int) -> PreparedText:
        return prepare(text, index, ITEMS)

    def joined(self, pieces: list[Any]) -> Any:
        if len(pieces) != 1:
            raise unexpected_response("a small answer in several messages")
        return pieces[0]

    def bytes_of(self, answer: Any) -> int:
        return 0


def item_ids(group: Group) -> dict[str, Any]:
    """Return the fields of a message that identify its items."""
    first, last = group.indexes[0], group.indexes[-1]
    if last - first == len(group.indexes) - 1:  # indexes are in ascending order
        return {"first_id": first}
    return {"ids": group.indexes}


def errors_of(ids: Sequence[int], outcomes: Sequence[object]) -> list[ItemError]:
    """Return the errors of the items that failed."""
    failed = ((item_id, outcome) for item_id, outcome in zip(ids, outcomes, strict=True))
    return [ItemError(item_id, outcome) for item_id, outcome in failed if isinstance(outcome, RpcError)]
