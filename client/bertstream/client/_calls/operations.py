"""What each method of a client does, without doing any I/O.

An operation is a generator: it yields `Calls` for the client to make, is resumed when all are answered (or gets the
exception of the first that failed), and returns the method's value. The synchronous and the asynchronous client run
the same operations.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np

from bertstream.client._calls.health import check_request, check_response
from bertstream.client._encoding.decode import model_of, tokens_of, vectors_of
from bertstream.client._encoding.options import encoding_options, pooled_width, tokenization_options
from bertstream.client._enums import value_of
from bertstream.client._errors import (
    NotFound,
    PermissionDenied,
    RpcError,
    Unauthenticated,
    Unimplemented,
    unexpected_response,
    with_own_indexes,
)
from bertstream.client._reports import ReportOption, tell
from bertstream.client._texts import (
    INPUTS,
    NO_ROOT,
    Group,
    MessageLimits,
    PreparedText,
    Text,
    check_size,
    cut,
    listed,
    prepare_all,
    prepare_ids,
    token_id_lists,
)
from bertstream.client._transport.channels import HEALTH_RPC
from bertstream.client._types import ComputeType, FloatArray, Health, Model, Tokens
from bertstream.v1 import encoding_pb2 as encoding
from bertstream.v1 import models_pb2 as models
from bertstream.v1 import tokenization_pb2 as tokenization
from bertstream.v1 import types_pb2 as types

T = TypeVar("T")
Descriptions: TypeAlias = dict[str, Model]
"""What a client has learnt of the models, by the name asked for."""

MOST_TEXTS, MOST_BYTES = 256, (1 << 20) - (1 << 14)  # of one message; a little room for the options
SMALL_LIST = 64  # a list so short needs no description of the model


@dataclass(slots=True)
class Calls:
    """Unary calls of one rpc, to be made with several under way, their answers taken in order."""

    rpc: str
    requests: Iterable[Any]
    take: Callable[[int, Any], object]
    patient: bool = False  # no end but the caller's
    explain: Callable[[int, RpcError], RpcError] = field(default=lambda _, error: error)


Operation: TypeAlias = Generator[Calls, None, T]


def health(service: str) -> Operation[Health]:
    """grpc.health.v1.Health/Check."""
    try:
        return check_response((yield from _call(HEALTH_RPC, check_request(service))))
    except NotFound:  # so Check says what Watch says by a status
        return Health.SERVICE_UNKNOWN


def list_models() -> Operation[tuple[list[Model], str]]:
    """The models and the server's version."""
    answer: models.ListModelsResponse = yield from _call("ListModels", models.ListModelsRequest())
    return [model_of(model) for model in answer.models], answer.server_version


def get_model(name: str) -> Operation[Model]:
    """One model."""
    answer: models.GetModelResponse = yield from _call("GetModel", models.GetModelRequest(name=name))
    return model_of(answer.model)


def describe(known: Descriptions, name: str) -> Operation[Model | None]:
    """One model, asked for once; None where the server does not let us know."""
    if name not in known:
        try:
            known[name] = yield from get_model(name)
        except (Unimplemented, PermissionDenied, Unauthenticated):
            return None
    return known[name]


def load_model(
    known: Descriptions,
    name: str,
    source: str,
    dtype: ComputeType | None,
    workers: int,
    allow_unsupported_modules: bool,
) -> Operation[Model]:
    """Loads a model, and forgets what was known of the one before."""
    request = models.LoadModelRequest(
        name=name, source=source, workers=workers, allow_unsupported_modules=allow_unsupported_modules
    )
    if dtype is not None:
        request.compute_type = value_of(types.DataType, dtype, "dtype")
    try:
        answer: models.LoadModelResponse = yield from _call("LoadModel", request, patient=True)
    finally:  # a load whose caller gives up goes on
        known.clear()
    return model_of(answer.model)


def unload_model(known: Descriptions, name: str) -> Operation[None]:
    """Takes a model out of service."""
    yield from _call("UnloadModel", models.UnloadModelRequest(name=name), patient=True)
    known.clear()


def encode(
    known: Descriptions, texts: Text | Iterable[Text], report: ReportOption = None, **given: Any
) -> Operation[FloatArray]:
    """Pooled vectors [n, d], or [d] for one text alone."""
    options = encoding_options(**given)
    items, alone = listed(texts)
    prepared = prepare_all(items)
    if not prepared:
        return (yield from _no_vectors(known, options))
    limits = yield from unary_limits(known, options.model, prepared, options.pooling)
    vectors = _Vectors(len(prepared))

    def request(group: Group) -> encoding.EncodeTextsRequest:
        return encoding.EncodeTextsRequest(options=options, inputs=group.batch())

    def take(group: Group, answer: encoding.EncodeTextsResponse) -> None:
        vectors.put(group.indexes, vectors_of(answer.encodings.pooled))
        tell(report, answer)

    yield fan_out("EncodeTexts", prepared, limits, request, take)
    return cast(FloatArray, vectors.all()[0]) if alone else vectors.all()


def tokenize(
    known: Descriptions, texts: Text | Iterable[Text], report: ReportOption = None, **given: Any
) -> Operation[list[Tokens]]:
    """Tokens of each text, or of each window, in order."""
    options = tokenization_options(**given)
    prepared = prepare_all(listed(texts)[0])
    limits = yield from unary_limits(known, options.model, prepared, None)
    rows: list[list[Tokens]] = [[] for _ in prepared]

    def request(group: Group) -> tokenization.TokenizeTextsRequest:
        return tokenization.TokenizeTextsRequest(options=options, inputs=group.batch())

    def take(group: Group, answer: tokenization.TokenizeTextsResponse) -> None:
        for index, row in zip(group.indexes, tokens_of(answer.tokenizations, len(group.indexes)), strict=True):
            rows[index] = row
        tell(report, answer)

    yield fan_out("TokenizeTexts", prepared, limits, request, take)
    return [_at(tokens, index) for index, row in enumerate(rows) for tokens in row]


def detokenize(
    known: Descriptions, token_ids: Iterable[Text], skip_special_tokens: bool, model: str
) -> Operation[list[str]]:
    """A text for each list of ids."""
    prepared = [prepare_ids(ids, index) for index, ids in enumerate(listed(token_ids)[0])]
    limits = yield from unary_limits(known, model, prepared, None)
    texts = [""] * len(prepared)

    def request(group: Group) -> tokenization.DetokenizeTokensRequest:
        ids = token_id_lists([(ids, ()) for ids, _ in group.values])
        return tokenization.DetokenizeTokensRequest(model=model, token_ids=ids, skip_special_tokens=skip_special_tokens)

    def take(group: Group, answer: tokenization.DetokenizeTokensResponse) -> None:
        for index, text in zip(group.indexes, _exactly(answer.texts, len(group.indexes)), strict=True):
            texts[index] = text

    yield fan_out("DetokenizeTokens", prepared, limits, request, take, NO_ROOT)
    return texts


def stream_limits(model: Model | None) -> MessageLimits:
    """How much goes into one message of a stream."""
    return _within(MessageLimits(), model)


def _call(rpc: str, request: Any, patient: bool = False) -> Operation[Any]:
    answers: list[Any] = []
    yield Calls(rpc, [request], lambda _, answer: answers.append(answer), patient)
    return answers[0]


def _no_vectors(known: Descriptions, options: encoding.EncodingOptions) -> Operation[FloatArray]:
    model = yield from describe(known, options.model)
    dtype = np.float16 if options.data_type == types.DATA_TYPE_FLOAT16 else np.float32
    return np.empty((0, pooled_width(options.pooling, model)), dtype)


def unary_limits(
    known: Descriptions, name: str, texts: Sequence[PreparedText], pooling: encoding.PoolingOptions | None
) -> Operation[MessageLimits]:
    """Safe limits for a short list; for others those of the model's description."""
    if len(texts) <= SMALL_LIST and sum(text.size for text in texts) <= MOST_BYTES:
        return MessageLimits(SMALL_LIST, MOST_BYTES)
    model = yield from describe(known, name)
    limits = _within(MessageLimits(MOST_TEXTS, MOST_BYTES), model)
    if model and pooling is not None and model.limits.max_response_bytes > 0:
        fitting = model.limits.max_response_bytes // (4 * pooled_width(pooling, model) + 64)
        limits = limits._replace(texts=max(1, min(limits.texts, fitting)))
    return limits


def _within(limits: MessageLimits, model: Model | None) -> MessageLimits:
    if model is None:
        return limits
    texts, size = model.limits.max_texts or limits.texts, model.limits.max_request_bytes or limits.largest
    return MessageLimits(min(limits.texts, texts), min(limits.bytes, size), size)


def fan_out(
    rpc: str,
    prepared: Sequence[PreparedText],
    limits: MessageLimits,
    request: Callable[[Group], Any],
    take: Callable[[Group, Any], None],
    root: str = INPUTS,
) -> Calls:
    """Calls for all texts, in messages within the limits."""
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
        explain=lambda number, error: with_own_indexes(error, _index_in(under_way[number].indexes)),
    )


def _index_in(indexes: Sequence[int]) -> Callable[[int], int]:
    """From the index in a message to that in the caller's list."""
    return lambda index: indexes[index] if index < len(indexes) else index


class _Vectors:
    """Rows of one array, as they come."""

    def __init__(self, count: int) -> None:
        self._count, self._array = count, cast("FloatArray | None", None)

    def put(self, indexes: Sequence[int], rows: FloatArray) -> None:
        if self._array is None:
            self._array = np.empty((self._count, rows.shape[1]), rows.dtype)
        if len(rows) != len(indexes) or rows.shape[1] != self._array.shape[1]:
            raise unexpected_response(f"vectors of shape {list(rows.shape)} for {len(indexes)} texts")
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
