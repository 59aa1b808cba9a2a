"""Jina's endpoint for late interaction (ColBERT): a vector for each token of a text that counts.

Source: https://api.jina.ai/redoc.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
from msgspec import Struct

from bertstream.server.core.errors import invalid
from bertstream.server.core.models import Models
from bertstream.server.protocols.bertstream_v1.validation.encoding import parse_encoding
from bertstream.server.protocols.bertstream_v1.validation.names import TEXT_KINDS
from bertstream.server.protocols.enums import value_of
from bertstream.server.protocols.http.answers import HttpAnswer, dumped
from bertstream.server.protocols.http.call import HttpCall
from bertstream.server.protocols.http.choosing import chosen
from bertstream.server.protocols.http.endpoints import Endpoint
from bertstream.server.protocols.http.forms import rerank_form
from bertstream.server.protocols.http.texts import TextsOrIds, sent_of
from bertstream.server.protocols.http.vectors import encode_request, listed
from bertstream.server.protocols.tei_v1.choosing import MULTI_VECTOR
from bertstream.v1 import encoding_pb2
from bertstream.workers.contract import INTERACTIVE
from bertstream.workers.programs.description import ModelDescription

DEFAULT_NAMES = ("jina-colbert-",)  # how the names of their models begin


class MultiVectorRequest(Struct):
    """The body; what else clients send is ignored."""

    input: TextsOrIds
    model: str | None = None
    input_type: Literal["query", "document"] = "document"
    embedding_type: Literal["float"] = "float"
    dimensions: int | None = None


def endpoints(models: Models) -> Sequence[Endpoint]:
    """Return the endpoint."""
    about = "Turn texts into a vector for each token, as Jina's API does."
    example = {"input": ["A cat sleeps on the warm roof.", "It will rain all night."], "input_type": "document"}
    handle = partial(multi_vectors, models)
    return (Endpoint("POST", "/v1/multi-vector", handle, rerank_form, about, MultiVectorRequest, example=example),)


async def multi_vectors(models: Models, request: MultiVectorRequest, call: HttpCall) -> HttpAnswer:
    """Answer with the vectors of all texts, as `EncodeTexts` gives them for their kind."""
    model = chosen(models, call, request.model, MULTI_VECTOR, DEFAULT_NAMES)
    options = encoding_pb2.EncodingOptions(
        outputs=[encoding_pb2.ENCODING_OUTPUT_TOKEN_VECTORS], text_kind=value_of(TEXT_KINDS, request.input_type)
    )
    plan = parse_encoding(options, model.name, model.description, INTERACTIVE)
    _check_dimensions(request.dimensions, model.description)
    sent = sent_of(request.input, "input", model.limits.max_texts)
    prepared, encoded = await encode_request(model, plan, sent, call)
    vectors = encoded.tensors["token_vectors"].astype(np.float32, copy=False)
    ends = np.cumsum(prepared.layout.counts("token_vectors"))
    tokens = int(prepared.batch.ids.size)
    data = await listed(np.split(vectors, ends[:-1]), _entry)
    end = dumped({"model": model.name, "usage": {"total_tokens": tokens, "prompt_tokens": tokens}})
    return HttpAnswer((b'{"object":"list","data":', *data, b",", end[1:]))


def _check_dimensions(dimensions: int | None, description: ModelDescription) -> None:
    """Raise INVALID_RANGE for another width than the model's: its vectors mean nothing when they are cut."""
    own = description.multi_vector
    if own is not None and dimensions is not None and dimensions != own.width:
        raise invalid("dimensions", f"this model's vectors have {own.width}, and cannot be cut", "INVALID_RANGE")


def _entry(index: int, vectors: Any) -> Mapping[str, Any]:
    return {"object": "embeddings", "index": index, "embeddings": np.ascontiguousarray(vectors)}
