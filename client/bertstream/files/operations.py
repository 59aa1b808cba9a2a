"""What each task reads and gives, as columns: a table, from which files of any format are made alike.

Answers are the values that the SDK's methods return for one row, so they are told by their fields, not by their types.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from bertstream.files.schema import Column, Field, ListOf, Struct, Type
from bertstream.files.vectors import VectorFormat, multi_vector_columns, vector_columns

Options: TypeAlias = Mapping[str, Any]
"""The keyword arguments of the SDK's method."""
Columns: TypeAlias = Callable[[Sequence[Any], Options, VectorFormat], list[Column]]
"""Takes the answers of some rows, None for those that failed, and returns them as columns."""

TEXT, PAIR = ("text",), ("first", "second")
SCORE = "score"


@dataclass(frozen=True, slots=True)
class Operation:
    """Describe a task over rows."""

    name: str
    """The SDK's method, such as "classify"."""
    inputs: tuple[str, ...]
    """The names of the columns that it reads, unless the caller names others."""
    columns: Columns
    pairs: bool | None = None
    """Whether a row is a pair of columns; None where it may be either."""
    several: bool = False
    """Whether a list in the second column stands for several pairs, each of which has its own answer."""
    lists: bool = True
    """Whether a text that is alone may be a list of words or of token ids."""
    vectors: bool = False
    """Whether it gives vectors, whose type and layout are the caller's choice."""


def _table(fields: Sequence[Field], values_of: Callable[[Any], Sequence[Any]]) -> Columns:
    """Return what makes columns with these fields of answers, by their values in the order of the fields."""

    def columns(answers: Sequence[Any], _: Options, __: VectorFormat) -> list[Column]:
        rows = [[None] * len(fields) if answer is None else values_of(answer) for answer in answers]
        return [Column(field, [row[place] for row in rows]) for place, field in enumerate(fields)]

    return columns


def _attributes(*fields: Field) -> Columns:
    """Return what makes columns of the answers' attributes that have the names of the fields."""
    return _table(fields, lambda answer: _values(answer, fields))


def _list_of(name: str, *fields: Field) -> Columns:
    """Return what makes one column of answers that are lists of objects with these attributes."""
    return _table([Field(name, ListOf(Struct(fields)))], lambda answer: [_objects(answer, fields)])


def _one_or_more(is_one: Callable[[Options], bool], one: Columns, more: Columns) -> Columns:
    """Return what makes columns in the one way or the other, by the options."""

    def columns(answers: Sequence[Any], options: Options, stored: VectorFormat) -> list[Column]:
        return (one if is_one(options) else more)(answers, options, stored)

    return columns


def _values(answer: Any, fields: Iterable[Field]) -> list[Any]:
    return [plain(getattr(answer, field.name)) for field in fields]


def _objects(answers: Iterable[Any], fields: Sequence[Field]) -> list[dict[str, Any]]:
    return [{field.name: plain(getattr(each, field.name)) for field in fields} for each in answers]


def plain(value: Any) -> Any:
    """Return an array or a tuple as a list, with 0 and 1 for False and True, and all else as it is."""
    if isinstance(value, np.ndarray):
        return value.astype(int).tolist() if value.dtype.kind == "b" else value.tolist()
    return list(value) if isinstance(value, tuple) else value


def _fields(**types: Type) -> tuple[Field, ...]:
    return tuple(Field(name, kind) for name, kind in types.items())


_LABEL = _fields(label="string", score="float32", label_id="int32")
_ENTITY = _fields(label="string", score="float32", word="string", start="int32", end="int32", token_index="int32")
_CANDIDATE = _fields(token="string", token_id="int32", score="float32", sequence="string", position="int32")
_ANSWER = _fields(text="string", score="float32", start="int32", end="int32")
_GENERATION = _fields(text="string", finish_reason="string", score="float32", input_tokens="int32")
_TOKENS = _fields(
    token_ids=ListOf("int32"),
    tokens=ListOf("string"),
    offsets=ListOf(ListOf("int32")),
    token_type_ids=ListOf("int32"),
    special_tokens_mask=ListOf("int32"),
    word_ids=ListOf("int32"),
)
_TOKEN_NAMES = [field.name for field in _TOKENS]
_SPARSE = _fields(token_ids=ListOf("int32"), weights=ListOf("float32"), tokens=ListOf("string"))


def _encode(answers: Sequence[Any], _: Options, stored: VectorFormat) -> list[Column]:
    return vector_columns(answers, stored)


def _encode_multi(answers: Sequence[Any], _: Options, stored: VectorFormat) -> list[Column]:
    return multi_vector_columns(answers, stored)


def _renamed(name: str, fields: Sequence[Field]) -> Columns:
    """Return what makes columns of attributes, of which `text` gets this name."""
    named = [Field(name if field.name == "text" else field.name, field.type) for field in fields]
    return _table(named, lambda answer: _values(answer, fields))


def _windows(answer: Sequence[Any]) -> list[dict[str, Any]]:
    return [dict(zip(_TOKEN_NAMES, _token_values(window), strict=True)) for window in answer]


def _token_values(tokens: Any) -> list[Any]:
    return _values(tokens, _TOKENS)


def _score(answers: Sequence[Any], _: Options, __: VectorFormat) -> list[Column]:
    """Return a column of numbers, or of lists of them. Where all rows failed its type is open: that of later ones."""
    kind: Type = ListOf("float32") if any(isinstance(answer, list) for answer in answers) else "float32"
    if answers and all(answer is None for answer in answers):
        kind = "null"
    return [Column(Field(SCORE, kind), list(answers))]


def _likelihood(answer: Any) -> list[Any]:
    perplexity = None if math.isnan(answer.perplexity) else answer.perplexity
    return [answer.score, perplexity, *_values(answer, _fields(token_ids="int32", log_probabilities="float32"))]


_LIKELIHOOD = _fields(
    score="float32", perplexity="float64", token_ids=ListOf("int32"), log_probabilities=ListOf("float32")
)
_TOKENIZE = _one_or_more(
    lambda options: not options.get("overflow") and options.get("stride") is None,
    _table(_TOKENS, lambda windows: _token_values(windows[0])),
    _table([Field("windows", ListOf(Struct(_TOKENS)))], lambda windows: [_windows(windows)]),
)
_ANSWERS = _one_or_more(
    lambda options: options.get("top_k") is None, _renamed("answer", _ANSWER), _list_of("answers", *_ANSWER)
)
_GENERATE = _one_or_more(
    lambda options: (options.get("num_return_sequences") or 1) == 1,
    _renamed("generated", _GENERATION),
    _list_of("answers", *_GENERATION),
)
_MASKS = _table(
    [Field("masks", ListOf(ListOf(Struct(_CANDIDATE))))],
    lambda masks: [[_objects(candidates, _CANDIDATE) for candidates in masks]],
)

OPERATIONS: Mapping[str, Operation] = {
    operation.name: operation
    for operation in (
        Operation("encode", TEXT, _encode, vectors=True),
        Operation("encode_multi", TEXT, _encode_multi, vectors=True),
        Operation("tokenize", TEXT, _TOKENIZE),
        Operation("classify", TEXT, _list_of("labels", *_LABEL)),
        Operation("zero_shot", TEXT, _list_of("labels", *_LABEL), pairs=False, lists=False),
        Operation("entities", TEXT, _list_of("entities", *_ENTITY), pairs=False),
        Operation("fill_mask", TEXT, _MASKS),
        Operation("score_text", TEXT, _table(_LIKELIHOOD, _likelihood)),
        Operation("encode_sparse", TEXT, _attributes(*_SPARSE)),
        Operation("rerank", ("query", "document"), _score, pairs=True, several=True),
        Operation("answer", ("question", "context"), _ANSWERS, pairs=True),
        Operation("next_sentence", PAIR, _table(_fields(probability="float32"), lambda value: [value]), pairs=True),
        Operation(
            "choose",
            ("prompt", "choices"),
            _table(_fields(probabilities=ListOf("float32")), lambda value: [list(value)]),
            pairs=True,
        ),
        Operation("generate", TEXT, _GENERATE, pairs=False),
        Operation("summarize", TEXT, _renamed("summary", _GENERATION), pairs=False),
    )
}
"""All tasks, by the names of the SDK's methods; a new one needs a line here."""
