"""Texts of every kind, made ready for the wire and cut into messages."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bertstream.client._errors import FieldViolation, InvalidArgument, request_too_large
from bertstream.client._lists import HasToList, check_list, described, ids_alone, is_array, items_of, plain_of
from bertstream.client._types import Tokens
from bertstream.v1 import types_pb2 as types

Text: TypeAlias = str | tuple[str, str] | Sequence[str] | Sequence[int] | NDArray[np.integer[Any]] | Tokens | HasToList
"""A str; a pair, as a tuple of two str; a list of words; or token ids, as a list of int, an array or tensor of integers
in one dimension, or Tokens. Words and ids may be a column of pandas, Polars or Arrow too, as may a list of texts.

An empty list is a text of no words.
"""

Kind: TypeAlias = Literal["texts", "pairs", "word_lists", "token_ids", "prompts", "documents"]
"""By the field of the request. Prompts (with their choices) and documents are no texts of a TextBatch."""
_KINDS = "a text is a str, a tuple of two str (a pair), a list of str (words), or a list of int (token ids)"
INPUTS, ITEMS, NO_ROOT = "inputs.", "items.inputs.", ""  # where texts are in a unary request, in a stream, and ids
_ITEM_BYTES = 12  # tag and length of a string, or a count; generous


class PreparedText(NamedTuple):
    """A text that is known to be of one kind and fit to be sent."""

    kind: Kind
    value: Any  # str, (str, str), list[str], (list[int], list[int]): ids and type ids, or (str, list[str]): choices
    size: int  # bytes in a message, never too few
    spans: Any = None  # [n, 2] int64, where spans of it are to be pooled
    rows: int = 1  # how many texts the server has to work on for it


class MessageLimits(NamedTuple):
    """How much goes into one message."""

    texts: int = 64  # or rows that are made of them
    bytes: int = 1 << 20
    largest: int = 1 << 62  # the server refuses messages above; a text larger than `bytes` goes alone


class Group(NamedTuple):
    """Texts of one kind for one message."""

    kind: Kind
    indexes: list[int]
    values: list[Any]
    spans: list[Any]  # of each text, None where there are none

    def batch(self) -> types.TextBatch:
        """As the wire has it."""
        return _BATCHES[self.kind](self.values)


def listed(texts: Text | Iterable[Text]) -> tuple[list[Text], bool]:
    """A caller's argument as a list of texts, and whether it was one text alone: a str, Tokens, or an array or tensor
    of ids. TypeError where it is neither.
    """
    if isinstance(texts, str | Tokens):
        return [texts], True
    if (ids := ids_alone(texts)) is not None:
        return [ids], True
    if isinstance(texts, tuple) and len(texts) == 2 and all(isinstance(text, str) for text in texts):
        raise TypeError("a pair or two texts? Write [(first, second)] for a pair, [first, second] for two texts")
    return items_of(texts, "texts"), False


def check_stream(texts: object) -> None:
    """TypeError where something cannot be meant as the texts of a stream."""
    if isinstance(texts, Tokens) or ids_alone(texts) is not None:
        raise TypeError(f"texts of a stream must be a list of texts, not one {type(texts).__name__}: put it in a list")
    if not hasattr(texts, "__aiter__"):
        check_list(texts, "texts of a stream")


def prepare(text: object, index: int, root: str = INPUTS) -> PreparedText:
    """A text as its kind. TypeError where it is none, InvalidArgument where it has lone surrogates; both name the text
    as the server would, by the path of its field below `root`.
    """
    try:
        return _prepare(text)
    except (TypeError, ValueError) as error:
        raise refusal(error, field_path(root, _likely_kind(text), index)) from None


def prepare_ids(ids: object, index: int) -> PreparedText:
    """Token ids to be made a text. TypeError where they are none, which names them as `prepare` does."""
    try:
        return _ids(_as_ids(ids), [])
    except (TypeError, ValueError) as error:
        raise refusal(error, field_path(NO_ROOT, "token_ids", index)) from None


def refusal(error: TypeError | ValueError, path: str) -> Exception:
    """What to raise where the field at this path is not fit to be sent."""
    if isinstance(error, UnicodeEncodeError):
        message = f"{path} is not valid Unicode: {error.reason} at {error.start}"
        return InvalidArgument(message, reason="INVALID_TEXT", fields=[FieldViolation(path, error.reason)])
    return type(error)(f"{path}: {error}")


def prepare_all(texts: Sequence[Text]) -> list[PreparedText]:
    """All texts of a unary call."""
    return [prepare(text, index) for index, text in enumerate(texts)]


def field_path(root: str, kind: Kind, index: int) -> str:
    """The field of a text in a request, such as `inputs.pairs[3]`."""
    return f"{root}{kind}[{index}]"


def check_size(text: PreparedText, limits: MessageLimits, index: int, root: str = INPUTS) -> None:
    """InvalidArgument where a text is too large for any message."""
    if text.size > limits.largest:
        path = field_path(root, text.kind, index)
        message = f"{path} has about {text.size:,} bytes; a message to this server may have {limits.largest:,}"
        raise request_too_large(message, [FieldViolation(path, f"larger than {limits.largest:,} bytes")])


def cut(texts: Iterable[tuple[int, PreparedText]], limits: MessageLimits) -> Iterator[Group]:
    """Messages of one kind each, within the limits, each in the order of its texts."""
    open_groups: dict[Kind, tuple[Group, int, int]] = {}
    for index, text in texts:
        group, rows, size = open_groups.get(text.kind) or (Group(text.kind, [], [], []), 0, 0)
        if group.values and (rows + text.rows > limits.texts or size + text.size > limits.bytes):
            yield group
            group, rows, size = Group(text.kind, [], [], []), 0, 0
        group.indexes.append(index)
        group.values.append(text.value)
        group.spans.append(text.spans)
        open_groups[text.kind] = group, rows + text.rows, size + text.size
    for group, *_ in open_groups.values():
        yield group


def token_id_lists(values: Sequence[tuple[Sequence[int], Sequence[int]]]) -> types.TokenIdLists:
    """Ids and type ids, end to end. Type ids are sent for all where any text has them."""
    lists = types.TokenIdLists(lengths=[len(ids) for ids, _ in values])
    lists.token_ids.extend(chain.from_iterable(ids for ids, _ in values))
    if any(type_ids for _, type_ids in values):
        lists.token_type_ids.extend(chain.from_iterable(type_ids or [0] * len(ids) for ids, type_ids in values))
    return lists


def _likely_kind(text: object) -> Kind:
    """The kind of a text that may be of none."""
    match text:
        case tuple():
            return "pairs"
        case list() if any(isinstance(word, str) for word in text):
            return "word_lists"
        case list() | Tokens():
            return "token_ids"
    return "token_ids" if is_array(text) else "texts"


def _prepare(given: object) -> PreparedText:
    text = given if isinstance(given, str | tuple | list | Tokens) else plain_of(given)
    match text:
        case str():
            return PreparedText("texts", text, utf8_size(text))
        case (str() as first, str() as second) if isinstance(text, tuple):
            return PreparedText("pairs", (first, second), utf8_size(first) + utf8_size(second))
        case Tokens():
            return _ids(text.token_ids, text.token_type_ids.tolist())
        case np.ndarray():
            return _ids(text, [])
        case list() if all(isinstance(word, str) for word in text):
            return PreparedText("word_lists", list(text), sum(map(utf8_size, text)) + _ITEM_BYTES)
        case list() if all(map(_is_id, text)):
            return _ids(np.asarray(list(map(operator.index, text))), [])
    raise TypeError(f"{_KINDS}; not {described(text)}")


def _is_id(token: object) -> bool:
    """Whether it is a whole number: an int, one of NumPy, or a tensor without a dimension."""
    return hasattr(token, "__index__") and not isinstance(token, bool | np.bool_)


def _ids(ids: NDArray[Any], type_ids: list[int]) -> PreparedText:
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise TypeError(f"token ids must be integers in one dimension, not {ids.dtype} {list(ids.shape)}")
    if ids.size and (ids.min() < 0 or ids.max() > 2**31 - 1):
        raise ValueError("token ids must be from 0 to 2**31 - 1")
    return PreparedText("token_ids", (ids.tolist(), type_ids), 7 * len(ids) + _ITEM_BYTES)


def _as_ids(ids: Any) -> NDArray[Any]:
    if isinstance(ids, Tokens):
        return ids.token_ids
    plain = plain_of(ids)
    if isinstance(plain, list | tuple) and all(map(_is_id, plain)):
        plain = list(map(operator.index, plain))
    array = np.array(plain)
    return array if array.size else np.empty(0, np.int32)


def utf8_size(text: str) -> int:
    """Bytes of a string in a message, never too few. UnicodeEncodeError where it has lone surrogates."""
    return (len(text) if text.isascii() else len(text.encode())) + _ITEM_BYTES


def _texts(values: list[str]) -> types.TextBatch:
    return types.TextBatch(texts=types.Texts(texts=values))


def _pairs(values: list[tuple[str, str]]) -> types.TextBatch:
    firsts, seconds = [first for first, _ in values], [second for _, second in values]
    return types.TextBatch(pairs=types.TextPairs(first_texts=firsts, second_texts=seconds))


def _word_lists(values: list[list[str]]) -> types.TextBatch:
    words, counts = chain.from_iterable(values), [len(value) for value in values]
    return types.TextBatch(word_lists=types.WordLists(words=words, word_counts=counts))


def _token_ids(values: list[tuple[list[int], list[int]]]) -> types.TextBatch:
    return types.TextBatch(token_ids=token_id_lists(values))


_BATCHES: dict[Kind, Callable[[list[Any]], types.TextBatch]] = {
    "texts": _texts,
    "pairs": _pairs,
    "word_lists": _word_lists,
    "token_ids": _token_ids,
}
