"""The operations behind `encode`, `tokenize` and `detokenize`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar, cast

import numpy as np

from bertstream.client._calls.limits import unary_limits
from bertstream.client._calls.models import Descriptions, describe
from bertstream.client._calls.unary_calls import Operation, fan_out
from bertstream.client._columns import split
from bertstream.client._encoding.decode import tokens_of, vectors_of
from bertstream.client._encoding.options import encoding_options, pooled_width, tokenization_options
from bertstream.client._encoding.reports import effective_options
from bertstream.client._errors import unexpected_response
from bertstream.client._fields import set_fields
from bertstream.client._reports import ReportOption, check_report, report_answer
from bertstream.client._texts import NO_ROOT, Group, Text, listed, prepare_all, prepare_ids, token_id_lists
from bertstream.client._types import FloatArray, Tokens
from bertstream.v1 import encoding_pb2 as encoding
from bertstream.v1 import tokenization_pb2 as tokenization
from bertstream.v1 import types_pb2 as types

T = TypeVar("T")


def encode(
    known: Descriptions, texts: Text | Iterable[Text], report: ReportOption = None, **given: Any
) -> Operation[FloatArray]:
    """Return pooled vectors [n, d], or [d] for a single text."""
    check_report(report)
    options = encoding_options(**given)
    items, alone = listed(texts)
    prepared = prepare_all(items)
    if not prepared:
        return (yield from _no_vectors(known, options))
    limits = yield from unary_limits(known, options.model, prepared, lambda model: pooled_width(options.pooling, model))
    vectors = _Vectors(len(prepared))

    def request(group: Group) -> encoding.EncodeTextsRequest:
        return encoding.EncodeTextsRequest(options=options, inputs=group.batch())

    def take(group: Group, answer: encoding.EncodeTextsResponse) -> None:
        vectors.put(group.indexes, vectors_of(answer.encodings.pooled))
        report_answer(report, answer, effective_options)

    yield fan_out("EncodeTexts", prepared, limits, request, take)
    return cast(FloatArray, vectors.all()[0]) if alone else vectors.all()


def encode_windows(
    known: Descriptions, texts: Text | Iterable[Text], report: ReportOption = None, **given: Any
) -> Operation[list[FloatArray]]:
    """Return the pooled vectors [windows, d] of each text's windows."""
    check_report(report)
    pooling = given.get("window_pooling")
    pooled = {"long_texts": "windows", "window_pooling": None if str(pooling) == "none" else pooling}
    options = encoding_options(**given | pooled)
    options.window_pooling = types.WINDOW_POOLING_NONE
    prepared = prepare_all(listed(texts)[0])
    limits = yield from unary_limits(known, options.model, prepared, lambda model: pooled_width(options.pooling, model))
    found: list[FloatArray] = [np.empty((0, 0), np.float32)] * len(prepared)

    def request(group: Group) -> encoding.EncodeTextsRequest:
        return encoding.EncodeTextsRequest(options=options, inputs=group.batch())

    def take(group: Group, answer: encoding.EncodeTextsResponse) -> None:
        rows = split(vectors_of(answer.encodings.pooled), answer.encodings.window_counts)
        for index, vectors in zip(group.indexes, _exactly(rows, len(group.indexes)), strict=True):
            found[index] = vectors
        report_answer(report, answer, effective_options)

    yield fan_out("EncodeTexts", prepared, limits, request, take)
    return found


def tokenize(
    known: Descriptions, texts: Text | Iterable[Text], report: ReportOption = None, **given: Any
) -> Operation[list[Tokens]]:
    """Return the tokens of each text, or of each of its windows, in order."""
    check_report(report)
    options = tokenization_options(**given)
    prepared = prepare_all(listed(texts)[0])
    limits = yield from unary_limits(known, options.model, prepared)
    rows: list[list[Tokens]] = [[] for _ in prepared]

    def request(group: Group) -> tokenization.TokenizeTextsRequest:
        return tokenization.TokenizeTextsRequest(options=options, inputs=group.batch())

    def take(group: Group, answer: tokenization.TokenizeTextsResponse) -> None:
        for index, row in zip(group.indexes, tokens_of(answer.tokenizations, len(group.indexes)), strict=True):
            rows[index] = row
        report_answer(report, answer, effective_options)

    yield fan_out("TokenizeTexts", prepared, limits, request, take)
    return [_at(tokens, index) for index, row in enumerate(rows) for tokens in row]


def detokenize(
    known: Descriptions, token_ids: Iterable[Text], skip_special_tokens: bool, model: str
) -> Operation[list[str]]:
    """Return a text for each list of ids."""
    options = tokenization.DetokenizeTokensRequest()
    set_fields(options, model=model, skip_special_tokens=skip_special_tokens)
    prepared = [prepare_ids(ids, index) for index, ids in enumerate(listed(token_ids)[0])]
    limits = yield from unary_limits(known, options.model, prepared)
    texts = [""] * len(prepared)

    def request(group: Group) -> tokenization.DetokenizeTokensRequest:
        ids = token_id_lists([(ids, ()) for ids, _ in group.values])
        message = tokenization.DetokenizeTokensRequest(token_ids=ids)
        message.MergeFrom(options)
        return message

    def take(group: Group, answer: tokenization.DetokenizeTokensResponse) -> None:
        for index, text in zip(group.indexes, _exactly(answer.texts, len(group.indexes)), strict=True):
            texts[index] = text

    yield fan_out("DetokenizeTokens", prepared, limits, request, take, NO_ROOT)
    return texts


def _no_vectors(known: Descriptions, options: encoding.EncodingOptions) -> Operation[FloatArray]:
    model = yield from describe(known, options.model)
    dtype = np.float16 if options.data_type == types.DATA_TYPE_FLOAT16 else np.float32
    return np.empty((0, pooled_width(options.pooling, model)), dtype)


class _Vectors:
    """An array that is filled row by row, as answers come."""

    def __init__(self, count: int) -> None:
        self._count, self._array = count, cast("FloatArray | None", None)

    def put(self, indexes: Sequence[int], rows: FloatArray) -> None:
        width = rows.shape[1] if self._array is None else self._array.shape[1]
        if len(rows) != len(indexes) or rows.shape[1] != width:
            raise unexpected_response(f"vectors of shape {list(rows.shape)} for {len(indexes)} texts")
        if self._array is None:
            self._array = np.empty((self._count, width), rows.dtype)
        self._array[indexes] = rows

    def all(self) -> FloatArray:
        assert self._array is not None  # there was at least one text
        return self._array


def _exactly(values: Sequence[T], count: int) -> Sequence[T]:
    if len(values) != count:
        raise unexpected_response(f"{len(values)} answers for {count} questions")
    return values


def _at(tokens: Tokens, index: int) -> Tokens:
    columns = {name: getattr(tokens, name) for name in Tokens.__dataclass_fields__}
    return Tokens(**{**columns, "text_index": index})
