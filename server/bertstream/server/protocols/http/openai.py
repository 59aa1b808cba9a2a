"""OpenAI's API: vectors, and the list of models (https://platform.openai.com/docs/api-reference)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
from msgspec import Struct

from bertstream.server.core.encoding import Encoded
from bertstream.server.core.errors import invalid
from bertstream.server.core.models import Models, ServedModel
from bertstream.server.core.plans import EncodingPlan, default_pooling, output_sizes, pooled_width
from bertstream.server.core.tokenization import Side, TokenizeOptions, Truncation
from bertstream.server.protocols.http.answers import HttpAnswer, answer_of, dumped
from bertstream.server.protocols.http.call import HttpCall
from bertstream.server.protocols.http.choosing import chosen
from bertstream.server.protocols.http.endpoints import Endpoint
from bertstream.server.protocols.http.forms import openai_form
from bertstream.server.protocols.http.texts import TextsOrIds, sent_of
from bertstream.server.protocols.http.vectors import base64_of, encode_request, listed
from bertstream.server.protocols.tei_v1.choosing import EMBEDDING, Wanted
from bertstream.workers.contract import INTERACTIVE, OutputOptions, Pooling
from bertstream.workers.programs.description import ModelDescription

DEFAULT_NAMES = ("text-embedding-",)  # how the names of OpenAI's models begin


class EmbeddingsRequest(Struct):
    """The body of `POST /v1/embeddings`; what else clients send is ignored, as `user` is."""

    input: TextsOrIds
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = None  # float
    dimensions: int | None = None
    task: str | None = None  # Jina's: which adapter is meant


def endpoints(models: Models) -> Sequence[Endpoint]:
    """Return all endpoints."""
    return (
        Endpoint(
            "POST",
            "/v1/embeddings",
            partial(embeddings, models),
            openai_form,
            "Turn texts, or lists of token ids, into vectors.",
            EmbeddingsRequest,
            example={"input": ["A cat sleeps on the warm roof.", "It will rain all night."], "dimensions": 4},
        ),
        Endpoint("GET", "/v1/models", partial(list_models, models), openai_form, "List the models."),
        Endpoint("GET", "/v1/models/{model}", partial(get_model, models), openai_form, "Tell of one model."),
    )


async def embeddings(models: Models, request: EmbeddingsRequest, call: HttpCall) -> HttpAnswer:
    """Answer with the vectors of the checkpoint's own pooling, as `EncodeTexts` does."""
    model = chosen(models, call, request.model, wanted(request.task), DEFAULT_NAMES)
    check_task(request.task, model.description)
    sent = sent_of(request.input, "input", model.limits.max_texts)
    prepared, encoded = await encode_request(model, plan_of(request, model.description), sent, call)
    tokens = int(prepared.batch.ids.size)
    data = await listed(_rows(encoded), _base64_entry if request.encoding_format == "base64" else _entry)
    end = dumped({"model": model.name, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})
    return HttpAnswer((b'{"object":"list","data":', *data, b",", end[1:]))


def wanted(task: str | None) -> Wanted:
    """Return which models suit a request: rather than any that embeds, one with the adapter for its task."""
    return replace(EMBEDDING, kinds=(lambda description: bool(task) and description.adapter == task, *EMBEDDING.kinds))


def check_task(task: str | None, description: ModelDescription) -> None:
    """Raise INVALID_COMBINATION where the model has the adapter for another task; one without adapters has any."""
    if task and description.adapter not in ("", task):
        about = f"this model is served with the adapter for {description.adapter}: name the one that is for {task}"
        raise invalid("task", about, "INVALID_COMBINATION")


def plan_of(request: EmbeddingsRequest, description: ModelDescription) -> EncodingPlan:
    """Return the plan of a request, with the defaults of `EncodeTexts`. Raises INVALID_RANGE."""
    options = OutputOptions(("pooled",), _pooling(request.dimensions, description))
    side: Side = "left" if description.truncation_side == "left" else "right"
    return EncodingPlan(
        options,
        TokenizeOptions(Truncation("longest_first", description.default_max_length, side)),
        add_special_tokens=None,
        prompt=description.prompts.get(description.default_prompt_name, ""),
        prompt_asked=False,
        priority=INTERACTIVE,
        sizes=output_sizes(options, description),
        shown=frozenset(),
        type_ids=False,
    )


async def list_models(models: Models, _: None, call: HttpCall) -> HttpAnswer:
    """Answer with the models that the caller may use, the default one first."""
    return answer_of({"object": "list", "data": [_model(each) for each in models if call.caller.may_use(each.name)]})


async def get_model(models: Models, _: None, call: HttpCall) -> HttpAnswer:
    """Answer with the model that is named."""
    return answer_of(_model(models.get(call.place, call.until_end, call.caller)))


def _pooling(dimensions: int | None, description: ModelDescription) -> Pooling:
    own = default_pooling(description)
    if not dimensions:  # infinity's client sends 0 unless it is told
        return own
    width = pooled_width(own, description)
    if not 1 <= dimensions <= width:
        raise invalid("dimensions", f"{dimensions} is not between 1 and {width}", "INVALID_RANGE")
    return replace(own, dimensions=dimensions)


def _rows(encoded: Encoded) -> Any:
    return encoded.tensors["pooled"].astype(np.float32, copy=False)


def _entry(index: int, vector: Any) -> Mapping[str, Any]:
    return {"object": "embedding", "index": index, "embedding": vector}


def _base64_entry(index: int, vector: Any) -> Mapping[str, Any]:
    return _entry(index, base64_of(vector))


def _model(model: ServedModel) -> Mapping[str, Any]:
    # Nobody knows when a checkpoint was made; clients want a number.
    return {"id": model.name, "object": "model", "created": 0, "owned_by": "bertstream"}
