"""The body of `POST /v1/generate`, and the plan that it asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from bertstream.server.core.models import ServedModel
from bertstream.server.protocols.bertstream_v1.validation.generation import (
    EARLY_STOPPINGS,
    AskedGeneration,
    parse_generation,
)
from bertstream.server.protocols.enums import value_of
from bertstream.server.protocols.http.common_options import TokenizedRequest, fill, priority_of, truncation_of
from bertstream.server.protocols.http.texts import TextsOrIds
from bertstream.v1 import generation_pb2
from bertstream.workers.contract import INTERACTIVE, EarlyStopping

_EARLY_STOPPINGS: Mapping[object, EarlyStopping] = {False: "heuristic", True: "first", "never": "never"}
_SAME = (
    *("add_special_tokens", "max_new_tokens", "min_new_tokens", "num_beams", "num_return_sequences"),
    *("length_penalty", "do_sample", "temperature", "top_k", "top_p", "seed", "repetition_penalty"),
    *("no_repeat_ngram_size", "bad_words", "stop_strings", "keep_special_tokens", "token_scores"),
)


class GenerateRequest(TokenizedRequest, kw_only=True):
    """The body; what is null is as the checkpoint's generation_config.json says, and else as in `GenerationOptions`."""

    inputs: TextsOrIds
    stream: bool | None = None
    max_new_tokens: int | None = None
    min_new_tokens: int | None = None
    num_beams: int | None = None
    num_return_sequences: int | None = 1
    length_penalty: float | None = None
    early_stopping: bool | Literal["never"] | None = None
    do_sample: bool | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    repetition_penalty: float | None = None
    no_repeat_ngram_size: int | None = None
    bad_words: list[str] | None = None
    stop_strings: list[str] | None = None
    eos_token_ids: int | list[int] | None = None
    keep_special_tokens: bool | None = None
    token_scores: bool | None = None


def plan_of(request: GenerateRequest, model: ServedModel) -> AskedGeneration:
    """Return the plan of a request. Raises as `parse_generation` does."""
    options = generation_pb2.GenerationOptions(truncation=truncation_of(request), priority=priority_of(request))
    eos = request.eos_token_ids
    fill(options, {name: getattr(request, name) for name in _SAME})
    fill(options, {"eos_token_ids": [eos] if isinstance(eos, int) else eos})
    if request.early_stopping is not None:
        options.early_stopping = generation_pb2.EarlyStopping.ValueType(
            value_of(EARLY_STOPPINGS, _EARLY_STOPPINGS[request.early_stopping])
        )
    return parse_generation(options, model.name, model.description, INTERACTIVE, pieces=bool(request.stream))
