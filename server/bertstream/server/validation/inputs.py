"""TextBatch to the tokenizer's inputs, and the paths of its texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from bertstream.server.errors import RequestError, Violation, invalid, invalid_fields, too_large
from bertstream.server.tokenization import Ids, Inputs, Pairs, Texts, Words
from bertstream.server.utf8 import BadString
from bertstream.v1 import types_pb2


def parse_inputs(batch: types_pb2.TextBatch, path: str, max_texts: int) -> Inputs:
    """At least one text and at most `max_texts`, of one kind. Raises INVALID_ARGUMENT with the field's path."""
    kind = batch.WhichOneof("content")
    if kind is None:
        raise invalid(path, "no texts are given: set one of texts, pairs, word_lists, token_ids", "INVALID_EMPTY_LIST")
    field = f"{path}.{kind}" if path else kind
    try:
        inputs = _PARSERS[kind](batch)
    except ValueError as error:
        raise invalid(field, str(error), "INVALID_LENGTHS") from None
    if len(inputs) == 0:
        raise invalid(field, "the list is empty", "INVALID_EMPTY_LIST")
    if len(inputs) > max_texts:
        raise too_large(field, f"{len(inputs)} texts; the limit of one message is {max_texts}")
    return inputs


def text_path(batch: types_pb2.TextBatch, path: str, index: int) -> str:
    """The path of a text, whatever columns it is spread over: "inputs.texts[3]"."""
    return f"{path}.{batch.WhichOneof('content')}[{index}]"


def bad_texts(batch: types_pb2.TextBatch, bad: Iterable[BadString]) -> list[int]:
    """The indexes of the texts that have strings which are not UTF-8; -1 for a string that is in no text."""
    return sorted({_text_of(batch, each) for each in bad})


def not_utf8(path: str) -> RequestError:
    """The text at this path is not UTF-8."""
    return invalid(path, "the bytes are not UTF-8", "INVALID_UTF8")


def refuse_bad_strings(batch: types_pb2.TextBatch, bad: Iterable[BadString], path: str = "inputs") -> None:
    """For unary calls: raises INVALID_ARGUMENT where any string is not UTF-8, naming all."""
    listed = list(bad)
    texts = [
        Violation(text_path(batch, path, i), "the bytes are not UTF-8") for i in bad_texts(batch, listed) if i >= 0
    ]
    others = [Violation(each.path, "the bytes are not UTF-8") for each in listed if _text_of(batch, each) < 0]
    if texts or others:
        raise invalid_fields([*others, *texts], "INVALID_UTF8")


_TEXT_FIELDS = {
    "texts": (".texts.texts",),
    "pairs": (".pairs.first_texts", ".pairs.second_texts"),
    "word_lists": (".word_lists.words",),
}


def _text_of(batch: types_pb2.TextBatch, bad: BadString) -> int:
    if not bad.path.endswith(_TEXT_FIELDS.get(batch.WhichOneof("content") or "", ())):
        return -1
    if bad.path.endswith(".words"):
        return int(np.searchsorted(np.cumsum(batch.word_lists.word_counts), bad.index, side="right"))
    return bad.index


def _ids(batch: types_pb2.TextBatch) -> Ids:
    columns = batch.token_ids
    type_ids = np.array(columns.token_type_ids, np.int32) if columns.token_type_ids else None
    return Ids(np.array(columns.token_ids, np.int32), np.array(columns.lengths, np.int32), type_ids)


_PARSERS: dict[str, Callable[[types_pb2.TextBatch], Inputs]] = {
    "texts": lambda batch: Texts(batch.texts.texts),
    "pairs": lambda batch: Pairs(batch.pairs.first_texts, batch.pairs.second_texts),
    "word_lists": lambda batch: Words(batch.word_lists.words, np.array(batch.word_lists.word_counts, np.int32)),
    "token_ids": _ids,
}
