"""Texts as bodies have them: one or a list, each as text or as token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from bertstream.server.core.errors import invalid, too_large
from bertstream.server.core.sent import Sent, SentTexts
from bertstream.server.core.tokenization import Ids, Pairs, Texts

# msgspec tells no two kinds of lists apart, so that `sent_of` does.
TextsOrIds: TypeAlias = str | list[str | int | list[int]]
_MOST_ID = (1 << 31) - 1


def sent_of(given: TextsOrIds, path: str, max_texts: int) -> SentTexts:
    """Return one text, or a list of texts, of token ids, or of lists of token ids, at this path of the body.

    A list of token ids is one text. Raises INVALID_ARGUMENT where there is nothing, or several kinds, or too much.
    """
    if isinstance(given, str):
        return Sent(Texts([given]), path, path, single=True)
    check_count(len(given), path, max_texts if not given or not isinstance(given[0], int) else len(given))
    if isinstance(given[0], str):
        _check_kind(given, str, "text", path)
        return Sent(Texts(given), path, path)  # type: ignore[arg-type]
    if isinstance(given[0], int):
        _check_kind(given, int, "token id", path)
        return Sent(_ids([given], [path]), path, path, single=True)  # type: ignore[list-item]
    _check_kind(given, list, "list of token ids", path)
    return Sent(_ids(given, [f"{path}[{index}]" for index in range(len(given))]), path, path)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Alike:
    """Items of one kind, and where they stand among all."""

    sent: Sent[Texts | Pairs]
    places: Sequence[int]


def items_of(given: Sequence[str | Sequence[str]], path: str, max_texts: int) -> list[Alike]:
    """Return texts and pairs, apart where there are both; a list of one text is that text. Raises as `sent_of`."""
    check_count(len(given), path, max_texts)
    items = [(each,) if isinstance(each, str) else tuple(each) for each in given]
    for index, item in enumerate(items):
        if len(item) not in (1, 2):
            raise invalid(f"{path}[{index}]", f"it must have one text or two, not {len(item)}", "INVALID_LENGTHS")
    places = {size: [index for index, item in enumerate(items) if len(item) == size] for size in (1, 2)}
    mixed = all(places.values())  # errors then name all items, as places among those of one kind would mislead
    singles = Texts([items[index][0] for index in places[1]])
    pairs = Pairs([items[index][0] for index in places[2]], [items[index][1] for index in places[2]])
    kinds = ((singles, places[1]), (pairs, places[2]))
    return [Alike(Sent(inputs, path, path, single=mixed), found) for inputs, found in kinds if found]


def check_count(count: int, path: str, most: int) -> None:
    """Raise INVALID_EMPTY_LIST for nothing, and REQUEST_TOO_LARGE for more than `most` texts."""
    if not count:
        raise invalid(path, "the list is empty", "INVALID_EMPTY_LIST")
    if count > most:
        raise too_large(path, f"{count} texts; the limit of one request is {most}")


def _check_kind(given: Sequence[object], kind: type, name: str, path: str) -> None:
    for index, each in enumerate(given):
        if not isinstance(each, kind):
            raise invalid(
                f"{path}[{index}]", f"it must be a {name}, as the first is: send the others apart", "INVALID_TYPE"
            )


def _ids(lists: Sequence[Sequence[int]], paths: Sequence[str]) -> Ids:
    for ids, path in zip(lists, paths, strict=True):
        if ids and not (min(ids) >= 0 and max(ids) <= _MOST_ID):
            index = next(index for index, each in enumerate(ids) if not 0 <= each <= _MOST_ID)
            raise invalid(f"{path}[{index}]", f"a token id is from 0 to {_MOST_ID}", "INVALID_TOKEN_ID")
    joined = [token for ids in lists for token in ids]
    return Ids(np.array(joined, np.int32), np.array([len(ids) for ids in lists], np.int32))
