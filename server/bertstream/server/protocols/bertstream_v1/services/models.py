"""ModelService."""

from __future__ import annotations

from bertstream.server.core.kinds import for_kind
from bertstream.server.core.models import Models, ServedModel
from bertstream.server.core.plans import default_pooling
from bertstream.server.protocols.bertstream_v1 import wire
from bertstream.server.protocols.bertstream_v1.validation.encoding import (
    available_outputs,
    effective_pooling,
)
from bertstream.server.protocols.bertstream_v1.validation.loading import COMPUTE_TYPES, parse_load
from bertstream.server.protocols.bertstream_v1.validation.names import OUTPUTS
from bertstream.server.protocols.call import Call
from bertstream.server.protocols.changes import Changes
from bertstream.server.protocols.decoding import Decoded
from bertstream.server.protocols.enums import value_of
from bertstream.v1 import models_pb2
from bertstream.workers.programs.description import ModelDescription


class ModelService:
    """Describes the served models, and loads and unloads models."""

    def __init__(self, models: Models, version: str, changes: Changes) -> None:
        self._models = models
        self._version = version
        self._changes = changes

    async def list_models(
        self, request: Decoded[models_pb2.ListModelsRequest], call: Call
    ) -> models_pb2.ListModelsResponse:
        request.value()
        listed = [describe(model) for model in self._models if call.caller.may_use(model.name)]
        return models_pb2.ListModelsResponse(models=listed, server_version=self._version)

    async def get_model(self, request: Decoded[models_pb2.GetModelRequest], call: Call) -> models_pb2.GetModelResponse:
        return models_pb2.GetModelResponse(
            model=describe(self._models.get(request.value().name, call.until_end, call.caller))
        )

    async def load_model(
        self, request: Decoded[models_pb2.LoadModelRequest], call: Call
    ) -> models_pb2.LoadModelResponse:
        self._changes.check_allowed()
        load = parse_load(request.value(), self._changes.max_workers)
        return models_pb2.LoadModelResponse(model=describe(await self._changes.load(load, call)))

    async def unload_model(
        self, request: Decoded[models_pb2.UnloadModelRequest], call: Call
    ) -> models_pb2.UnloadModelResponse:
        self._changes.check_allowed()
        await self._changes.unload(request.value().name, call)
        return models_pb2.UnloadModelResponse()


def describe(model: ServedModel) -> models_pb2.Model:
    """Return all that a client needs to know of a model."""
    description = model.description
    return models_pb2.Model(
        name=model.name,
        revision=description.revision,
        family=description.family,
        architecture=description.architecture,
        layers=description.layers,
        hidden_size=description.hidden_size,
        attention_heads=description.attention_heads,
        vocabulary_size=description.vocabulary_size,
        type_vocabulary_size=description.type_vocabulary_size,
        max_tokens=description.max_tokens,
        default_max_length=description.default_max_length,
        has_pooler=description.has_pooler,
        compute_type=value_of(COMPUTE_TYPES, description.compute_type),
        device=description.device,
        workers=model.dispatcher.workers,
        live_workers=len(model.dispatcher.live),
        native_operators=description.native_operators,
        default_pooling=effective_pooling(default_pooling(description)),
        prompts=description.prompts,
        default_prompt_name=description.default_prompt_name,
        special_tokens=[
            models_pb2.SpecialToken(role=role, token=token, id=token_id)
            for role, (token, token_id) in description.special_tokens.items()
        ],
        outputs=[value_of(OUTPUTS, output) for output in available_outputs(description)],
        heads=description.heads,
        labels=description.labels,
        limits=_limits(model),
        warnings=description.warnings,
        precision_test=models_pb2.PrecisionTest(
            max_abs_difference=description.precision_test.max_abs_difference,
            min_cosine=description.precision_test.min_cosine,
        ),
        generation=_generation(model),
        pooling_steps=description.default_pooling.steps,
        cpu_instructions=model.cpu_instructions,
        multi_vector=_multi_vector(description),
    )


def _multi_vector(description: ModelDescription) -> models_pb2.MultiVectorDescription | None:
    own = description.multi_vector
    if own is None:
        return None
    return models_pb2.MultiVectorDescription(
        dimensions=own.width,
        similarity=own.similarity,
        query_length=for_kind(description, "query").default_max_length,
        document_length=for_kind(description, "document").default_max_length,
        expanded_length=own.expansion.length if own.expansion is not None else 0,
    )


def _generation(model: ServedModel) -> models_pb2.GenerationDescription | None:
    generation = model.description.generation
    if generation is None:
        return None
    return models_pb2.GenerationDescription(
        vocabulary_size=generation.vocabulary_size,
        max_tokens=generation.max_tokens,
        eos_token_ids=generation.eos_token_ids,
        cache_tokens=model.dispatcher.cache_tokens,
    )


def _limits(model: ServedModel) -> models_pb2.ModelLimits:
    limits = model.limits
    return models_pb2.ModelLimits(
        max_texts=limits.max_texts,
        max_request_bytes=limits.max_request_bytes,
        max_response_bytes=limits.max_response_bytes,
        stream_window=wire.window_of(model.limits),
    )
