"""What callers send, so that a request gets as far as the models before it fails, if it fails at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

import numpy as np
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

from bertstream.server.protocols.inference import served as inference
from bertstream.server.protocols.tei_v1 import served as tei
from bertstream.v1 import encoding_pb2, generation_pb2, models_pb2, tasks_pb2, tokenization_pb2, types_pb2
from tests.fuzz.messages import ANYTHING, Taste, Values, damaged, messages, spoilt
from tests.support.inference import request_of

T = TypeVar("T")
PACKAGE = "bertstream.v1"
SERVICES = tuple(
    module.DESCRIPTOR.services_by_name[name]
    for module, name in (
        (encoding_pb2, "EncodingService"),
        (generation_pb2, "GenerationService"),
        (models_pb2, "ModelService"),
        (tasks_pb2, "TaskService"),
        (tokenization_pb2, "TokenizationService"),
    )
)
METHODS: tuple[MethodDescriptor, ...] = tuple(method for service in SERVICES for method in service.methods)
# Of other servers' interfaces, whose streams have no options, and all of whose messages are alike.
SPOKEN_METHODS: tuple[MethodDescriptor, ...] = tuple(
    method for service in (*inference.SERVICES, *tei.SERVICES) for method in service.methods
)

# Options -> the models of the server that can do it.
MODELS: Mapping[str, tuple[str, ...]] = {
    "EncodingOptions": ("", "bert", "choice"),
    "TokenizationOptions": ("", "bert", "choice"),
    "GenerationOptions": ("writer",),
    "FillMaskOptions": ("bert",),
    "ScoreTextOptions": ("bert",),
    "NextSentenceOptions": ("bert",),
    "ClassifyTextOptions": ("nli",),
    "ZeroShotOptions": ("nli",),
    "RerankOptions": ("nli",),
    "ClassifyTokenOptions": ("ner",),
    "AnswerOptions": ("qa",),
    "ChooseOptions": ("choice",),
}
WORDS = (
    "The quick brown fox",
    "jumps",
    "over the lazy dog [MASK] .",
    "敏捷的棕色",
    "fox " * 40,
    "A",
    "naïve 🚀 e\u0301",
    "",
)

_TEXT = st.sampled_from(WORDS)
_ID = st.integers(5, 60)
_FEW = partial(st.lists, min_size=1, max_size=4)


def _kinds() -> dict[int, Values]:
    return {
        **ANYTHING.kinds,
        FieldDescriptor.CPPTYPE_INT32: st.integers(0, 4),
        FieldDescriptor.CPPTYPE_INT64: st.integers(0, 100),
        FieldDescriptor.CPPTYPE_UINT32: st.integers(1, 60),
        FieldDescriptor.CPPTYPE_ENUM: st.integers(0, 3),
        FieldDescriptor.CPPTYPE_FLOAT: st.floats(0.25, 2, width=32),
        FieldDescriptor.CPPTYPE_STRING: _TEXT,
    }


def _text_pairs(pairs: list[tuple[str, str]]) -> types_pb2.TextPairs:
    return types_pb2.TextPairs(first_texts=[one for one, _ in pairs], second_texts=[two for _, two in pairs])


def _word_lists(lists: list[list[str]]) -> types_pb2.WordLists:
    return types_pb2.WordLists(words=[word for words in lists for word in words], word_counts=map(len, lists))


def _token_ids(lists: list[list[int]]) -> types_pb2.TokenIdLists:
    return types_pb2.TokenIdLists(token_ids=[id for ids in lists for id in ids], lengths=map(len, lists))


def _choices(asked: list[tuple[str, list[str]]]) -> tasks_pb2.ChoiceLists:
    choices = [each for _, listed in asked for each in listed]
    counts = [len(listed) for _, listed in asked]
    return tasks_pb2.ChoiceLists(prompts=[prompt for prompt, _ in asked], choices=choices, choice_counts=counts)


def _spans(lists: list[list[int]]) -> encoding_pb2.SpanLists:
    starts = [start for listed in lists for start in listed]
    ends = [start + 1 for start in starts]
    return encoding_pb2.SpanLists(span_counts=map(len, lists), starts=starts, ends=ends)


def _batch(kind: str) -> Callable[[Message], types_pb2.TextBatch]:
    return lambda inner: types_pb2.TextBatch(**{kind: inner})  # type: ignore[arg-type]


_TEXTS = _FEW(_TEXT).map(lambda texts: types_pb2.Texts(texts=texts))
_PAIRS = _FEW(st.tuples(_TEXT, _TEXT)).map(_text_pairs)
_CHOICES = _FEW(st.tuples(_TEXT, _FEW(_TEXT))).map(_choices)
_BATCH = st.one_of(
    _TEXTS.map(_batch("texts")),
    _PAIRS.map(_batch("pairs")),
    _FEW(_FEW(_TEXT)).map(_word_lists).map(_batch("word_lists")),
    _FEW(_FEW(_ID)).map(_token_ids).map(_batch("token_ids")),
)


_IDS = st.tuples(st.integers(1, 3), st.integers(0, 5)).flatmap(
    lambda shape: st.lists(_ID, min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]).map(
        lambda ids: np.array(ids, np.int64).reshape(shape)
    )
)
_TENSORS = st.one_of(
    _FEW(_TEXT).map(lambda texts: {"text": texts}),
    st.tuples(_FEW(_TEXT), _FEW(_TEXT)).map(lambda both: {"text": both[0], "text_pair": both[1]}),
    _IDS.map(lambda ids: {"input_ids": ids}),
    _IDS.map(lambda ids: {"input_ids": ids, "attention_mask": (ids > 20).astype(np.int64), "token_type_ids": ids % 2}),
)
_OUTPUTS = (
    "embeddings",
    "token_count",
    "last_hidden_state",
    "attentions.1",
    "scores",
    "logits",
    "mask_tokens",
    "offsets",
)
_PARAMETERS: Mapping[str, Values] = {
    "truncate": st.sampled_from([True, False, "NONE", "END", "START", ""]),
    "max_length": st.integers(0, 40),
    "normalize": st.booleans(),
    "dimensions": st.integers(0, 40),
    "pooling": st.sampled_from(["mean", "cls", "pooler", "x"]),
    "data_type": st.sampled_from(["float16", "bfloat16", "int8"]),
    "input_type": st.sampled_from(["query", "passage"]),
    "priority": st.integers(0, 3),
    "timeout": st.integers(0, 3) | st.just(60_000_000),
    "top_k": st.integers(0, 4),
}


def _infer_request() -> Values:
    return st.builds(
        lambda model, outputs, parameters, tensors: request_of(model, outputs, parameters=parameters, **tensors),
        st.sampled_from(["", "bert", "nli", "ner", "qa", "choice", "nothing"]),
        st.lists(st.sampled_from(_OUTPUTS), max_size=2),
        st.fixed_dictionaries({}, optional=dict(_PARAMETERS)) | st.just({}),
        _TENSORS,
    )


def _named() -> dict[str, Values]:
    messages_: dict[str, Values] = {
        "Texts": _TEXTS,
        "TextPairs": _PAIRS,
        "TextBatch": _BATCH,
        "TokenIdLists": _FEW(_FEW(_ID)).map(_token_ids),
        "ChoiceLists": _CHOICES,
        "PredictionItems": st.builds(
            lambda first_id, given: tasks_pb2.PredictionItems(first_id=first_id, **given),
            st.integers(0, 100),
            _BATCH.map(lambda batch: {"inputs": batch}) | _CHOICES.map(lambda choices: {"choices": choices}),
        ),
        "SpanLists": st.lists(st.lists(st.integers(0, 4), max_size=3), max_size=3).map(_spans),
    }
    layers = st.lists(st.integers(-3, 4), max_size=3, unique=True)
    fields: dict[str, Values] = {
        "EncodingOptions.hidden_state_layers": layers,
        "EncodingOptions.attention_layers": layers,
        "EncodingOptions.attention_heads": st.lists(st.integers(0, 2), max_size=2, unique=True),
        "EncodingOptions.outputs": st.lists(st.integers(1, 6), max_size=6, unique=True),
        "PoolingOptions.layers": layers,
        "PoolingOptions.dimensions": st.integers(0, 36),
        "TruncationOptions.max_length": st.sampled_from([0, 3, 8, 64]),
        "AnswerOptions.max_length": st.sampled_from([0, 16, 64]),
        "GenerationOptions.max_new_tokens": st.integers(1, 6),
        "GenerationOptions.num_beams": st.integers(1, 3),
        "GenerationOptions.num_return_sequences": st.integers(1, 2),
        "ZeroShotOptions.labels": st.lists(_TEXT, min_size=1, max_size=3, unique=True),
        "ZeroShotOptions.hypothesis_template": st.sampled_from(["", "about {}", "{} {}", "none"]),
        "LoadModelRequest.source": st.sampled_from(["broken", "nothing", "broken/../..", "/etc", ""]),
        "UnloadModelRequest.name": st.sampled_from(["gone", "nothing", ""]),
        "GetModelRequest.name": st.sampled_from(["", "bert", "nothing"]),
        "DetokenizeTokensRequest.model": st.sampled_from(["", "bert", "choice"]),
    }
    inference_fields: dict[str, Values] = {
        "ModelInferRequest": _infer_request(),
        "RepositoryModelLoadRequest.model_name": st.sampled_from(["broken", "nothing", "/etc", ""]),
        **{
            f"RepositoryModelUnloadRequest.{field}": st.sampled_from(["gone", "nothing", ""])
            for field in ("model_name", "repository_name")
        },
        **{
            f"{request}Request.{field}": st.sampled_from(["", values])
            for request in ("ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics")
            for field, values in (("name", "bert"), ("version", "1"))
        },
    }
    models = {f"{options}.model": st.sampled_from(names) for options, names in MODELS.items()}
    pair = st.lists(_TEXT, min_size=1, max_size=2)
    return {
        "tei.v1.PredictPairRequest.inputs": pair,
        **{f"inference.{name}": values for name, values in inference_fields.items()},
        **{f"{PACKAGE}.{name}": values for name, values in {**messages_, **fields, **models}.items()},
    }


# Without these a request asks nothing, or the default model in vain.
_ALWAYS = frozenset(
    {"options", "inputs", "token_ids", "query", "documents", "texts", "model", "name", "source", "message", "task"}
)
LIKELY = Taste(_kinds(), _named(), lambda values: st.lists(values, max_size=3), _ALWAYS)


def good_requests(method: MethodDescriptor) -> st.SearchStrategy[list[Message]]:
    """Return what a caller sends in one call: one message, or of a stream its options and then items."""
    if not method.client_streaming:
        return messages(method.input_type, LIKELY).map(lambda request: [request])
    if method in SPOKEN_METHODS:
        return st.lists(messages(method.input_type, LIKELY), min_size=1, max_size=4)
    options, items = (_member(method, name) for name in ("options", "items"))
    return st.builds(lambda first, rest: [first, *rest], options, st.lists(items, max_size=4))


def requests(method: MethodDescriptor) -> st.SearchStrategy[list[bytes]]:
    """Return what could be sent in one call: good requests, spoilt ones, anything of the type, and anything at all."""
    good, one = good_requests(method), messages(method.input_type, LIKELY)
    place = st.integers(0, 4)
    spoilt_calls = st.builds(_replaced, good, spoilt(one), place).map(_serialized)
    damaged_calls = st.builds(_replaced, good.map(_serialized), damaged(one.map(serialized)), place)
    anything = st.lists(messages(method.input_type), min_size=1, max_size=3).map(_serialized)
    rubbish = st.lists(st.binary(max_size=60), min_size=1, max_size=3)
    calls = st.one_of(good.map(_serialized), spoilt_calls, spoilt_calls, damaged_calls, anything, rubbish)
    return calls if method.client_streaming else calls.map(lambda sent: sent[:1])


def serialized(message: Message) -> bytes:
    """Return the message's bytes."""
    return message.SerializeToString()


def _serialized(listed: list[Message]) -> list[bytes]:
    return [serialized(each) for each in listed]


def _replaced(listed: list[T], one: T, index: int) -> list[T]:
    """Return the list with one of its elements replaced."""
    index %= len(listed)
    return [*listed[:index], one, *listed[index + 1 :]]


def _member(method: MethodDescriptor, name: str) -> st.SearchStrategy[Message]:
    """Return a stream's message with this member of its oneof."""
    kind = GetMessageClass(method.input_type)
    inner = method.input_type.fields_by_name[name].message_type
    assert inner is not None
    return messages(inner, LIKELY).map(lambda message: kind(**{name: message}))
