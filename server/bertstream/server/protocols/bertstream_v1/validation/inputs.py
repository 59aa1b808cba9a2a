"""Parses a TextBatch into the tokenizer's inputs, and names the paths of its texts. Choices count by their prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from bertstream.server.core.errors import NOT_UTF8, Violation, invalid, invalid_fields, too_large
from bertstream.server.core.sent import Sent, SentTexts
from bertstream.server.core.tokenization import Ids, Inputs, Pairs, Texts, Words
from bertstream.server.protocols.utf8 import BadString
from bertstream.v1 import tasks_pb2, types_pb2

Batch = types_pb2.TextBatch | tasks_pb2.ChoiceLists


def parse_inputs(batch: types_pb2.TextBatch, path: str, max_texts: int, field: str = "") -> Inputs:
    """Return at least one text and at most `max_texts`, all of one kind.

    `field` is the path of the content, where that is not `path` and the kind. Raises INVALID_ARGUMENT with the field's
    path.
    """
    kind = batch.WhichOneof("content")
    if kind is None:
        raise invalid(path, "no texts are given: set one of texts, pairs, word_lists, token_ids", "INVALID_EMPTY_LIST")
    field = field or (f"{path}.{kind}" if path else kind)
    try:
        inputs = _PARSERS[kind](batch)
    except ValueError as error:
        raise invalid(field, str(error), "INVALID_LENGTHS") from None
    if len(inputs) == 0:
        raise invalid(field, "the list is empty", "INVALID_EMPTY_LIST")
    if len(inputs) > max_texts:
        raise too_large(field, f"{len(inputs)} texts; the limit of one message is {max_texts}")
    return inputs


def parse_sent(batch: types_pb2.TextBatch, path: str, max_texts: int, bad: Sequence[int] = ()) -> SentTexts:
    """Return the texts of a message at this path; `bad` are those that are not UTF-8. Raises as parse_inputs does."""
    inputs = parse_inputs(batch, path, max_texts)
    return Sent(inputs, path, f"{path}.{batch.WhichOneof('content')}", bad)


def text_path(batch: Batch, path: str, index: int) -> str:
    """Return the path of a text, such as "inputs.texts[3]", even if it is spread over several columns."""
    kind = "prompts" if isinstance(batch, tasks_pb2.ChoiceLists) else batch.WhichOneof("content")
    return f"{path}.{kind}[{index}]"


def count_texts(batch: Batch) -> int:
    """Return how many texts, or questions with choices, a batch has, from the column that counts them."""
    if isinstance(batch, tasks_pb2.ChoiceLists):
        return len(batch.choice_counts)
    kind = batch.WhichOneof("content")
    if kind == "texts":
        return len(batch.texts.texts)
    if kind == "pairs":
        return len(batch.pairs.first_texts)
    return len(batch.word_lists.word_counts) if kind == "word_lists" else len(batch.token_ids.lengths)


def bad_texts(batch: Batch, bad: Iterable[BadString]) -> list[int]:
    """Return the indexes of the texts with strings that are not UTF-8; -1 stands for a string outside all texts."""
    return sorted({_text_of(batch, each) for each in bad})


def refuse_bad_strings(
    batch: Batch, bad: Iterable[BadString], path: str = "inputs", at: Callable[[int], str] | None = None
) -> None:
    """Raise INVALID_ARGUMENT, naming all of them, if a unary call has strings that are not UTF-8.

    `at` gives the path of a text where that is not the path in a TextBatch at `path`.
    """
    listed = list(bad)
    if not listed:
        return
    path_of = at or (lambda index: text_path(batch, path, index))
    texts = [Violation(path_of(i), NOT_UTF8) for i in bad_texts(batch, listed) if i >= 0]
    others = [Violation(each.path, NOT_UTF8) for each in listed if _text_of(batch, each) < 0]
    raise invalid_fields([*others, *texts], "INVALID_UTF8")


_TEXT_FIELDS = {
    "texts": (".texts",),
    "pairs": (".first_texts", ".second_texts"),
    "word_lists": (".words",),
    "choices": (".prompts", ".choices"),
}


def _text_of(batch: Batch, bad: BadString) -> int:
    kind = "choices" if isinstance(batch, tasks_pb2.ChoiceLists) else batch.WhichOneof("content") or ""
    if not bad.path.endswith(_TEXT_FIELDS.get(kind, ())):
        return -1
    if isinstance(batch, tasks_pb2.ChoiceLists):
        return _owner(batch.choice_counts, bad.index) if bad.path.endswith(".choices") else bad.index
    return _owner(batch.word_lists.word_counts, bad.index) if kind == "word_lists" else bad.index


def _owner(counts: Sequence[int], index: int) -> int:
    """Return the list that has the element at this index, where lists of these sizes stand end to end."""
    return int(np.searchsorted(np.cumsum(counts), index, side="right"))


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
