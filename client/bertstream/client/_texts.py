"""Texts of every kind, prepared for sending and cut into messages."""

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
in one dimension, or Tokens. Words, ids and lists of texts may also be a column of pandas, Polars or Arrow.

An empty list is a text without words.
"""

Kind: TypeAlias = Literal["texts", "pairs", "word_lists", "token_ids", "prompts", "documents"]
"""The kind of a text, by its field of the request. Prompts (with choices) and documents are not in a TextBatch."""
_KINDS = "a text is a str, a tuple of two str (a pair), a list of str (words), or a list of int (token ids)"
INPUTS, ITEMS, NO_ROOT = "inputs.", "items.inputs.", ""  # where texts are: in unary requests, streams, and elsewhere
_ITEM_BYTES = 12  # an upper bound for the tag and length of a string, or for a count


class PreparedText(NamedTuple):
    """A text that is known to be of one kind and can be sent."""

    kind: Kind
    value: Any  # str, (str, str), list[str], (list[int], list[int]): ids and type ids, or (str, list[str]): choices
    size: int  # bytes in a message, an upper bound
    spans: Any = None  # [n, 2] int64, if spans of it are to be pooled
    rows: int = 1  # how many texts the server has to compute for it


class MessageLimits(NamedTuple):
    """How much goes into one message."""

    texts: int = 64  # or the rows that are computed for them
    bytes: int = 1 << 20
    largest: int = 1 << 62  # the server refuses larger messages; a text larger than `bytes` has a message of its own


class Group(NamedTuple):
    """Texts of one kind for one message."""

    kind: Kind
    indexes: list[int]
    values: list[Any]
    spans: list[Any]  # of each text, or None

    def batch(self) -> types.TextBatch:
        """Return the texts as a message."""
        return _BATCHES[self.kind](self.values)


def listed(texts: Text | Iterable[Text]) -> tuple[list[Text], bool]:
    """Return a caller's argument as a list of texts, and whether it was a single text.

    A single text is a str, Tokens, or an array or tensor of ids. Raises TypeError for what is neither that nor a list.
    """
    if isinstance(texts, str | Tokens):
        return [texts], True
    if (ids := ids_alone(texts)) is not None:
        return [ids], True
    if isinstance(texts, tuple) and len(texts) == 2 and all(isinstance(text, str) for text in texts):
        raise TypeError("a pair or two texts? Write [(first, second)] for a pair, [first, second] for two texts")
    return items_of(texts, "texts"), False


def check_stream(texts: object) -> None:
    """Raise TypeError for a value that cannot be meant as the texts of a stream."""
    if isinstance(texts, Tokens) or ids_alone(texts) is not None:
        raise TypeError(f"texts of a stream must be a list of texts, not one {type(texts).__name__}: put it in a list")
    if not hasattr(texts, "__aiter__"):
        check_list(texts, "texts of a stream")


def prepare(text: object, index: int, root: str = INPUTS) -> PreparedText:
    """Return a text prepared for sending.

    Raises TypeError for what is not a text, and InvalidArgument for lone surrogates. Both name the text as the server
    would, by the path of its field below `root`.
    """
    try:
        return _prepare(text)
    except (TypeError, ValueError) as error:
        raise refusal(error, field_path(root, _likely_kind(text), index)) from None


def prepare_ids(ids: object, index: int) -> PreparedText:
    """Return token ids that are to become a text. Raises TypeError for anything else, worded as `prepare` does."""
    try:
        return _ids(_as_ids(ids), [])
    except (TypeError, ValueError) as error:
        raise refusal(error, field_path(NO_ROOT, "token_ids", index)) from None


def refusal(error: TypeError | ValueError, path: str) -> Exception:
    """Return the exception to raise for a field that cannot be sent, with its path."""
    if isinstance(error, UnicodeEncodeError):
        message = f"{path} is not valid Unicode: {error.reason} at {error.start}"
        return InvalidArgument(message, reason="INVALID_TEXT", fields=[FieldViolation(path, error.reason)])
    return type(error)(f"{path}: {error}")


def prepare_all(texts: Sequence[Text]) -> list[PreparedText]:
    """Return all texts of a unary call prepared for sending."""
    return [prepare(text, index) for index, text in enumerate(texts)]


def field_path(root: str, kind: Kind, index: int) -> str:
    """Return the path of a text's field in a request, such as `inputs.pairs[3]`."""
    return f"{root}{kind}[{index}]"


def check_size(text: PreparedText, limits: MessageLimits, index: int, root: str = INPUTS) -> None:
    """Raise InvalidArgument if a text is too large for any message."""
    if text.size > limits.largest:
        path = field_path(root, text.kind, index)
        message = f"{path} has about {text.size:,} bytes; a message to this server may have {limits.largest:,}"
        raise request_too_large(message, [FieldViolation(path, f"larger than {limits.largest:,} bytes")])


def cut(texts: Iterable[tuple[int, PreparedText]], limits: MessageLimits) -> Iterator[Group]:
    """Yield groups of texts for messages within the limits; each group has texts of one kind, in their order."""
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
    """Return ids and type ids, concatenated. If any text has type ids, they are sent for all texts."""
    lists = types.TokenIdLists(lengths=[len(ids) for ids, _ in values])
    lists.token_ids.extend(chain.from_iterable(ids for ids, _ in values))
    if any(type_ids for _, type_ids in values):
        lists.token_type_ids.extend(chain.from_iterable(type_ids or [0] * len(ids) for ids, type_ids in values))
    return lists


def _likely_kind(text: object) -> Kind:
    """Return the kind that a caller probably meant, for a value that may be no text at all."""
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
    """Return whether a value is a whole number: an int, NumPy's integer, or an integer tensor without dimensions."""
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
    """Return an upper bound of a string's bytes in a message. Raises UnicodeEncodeError for lone surrogates."""
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
