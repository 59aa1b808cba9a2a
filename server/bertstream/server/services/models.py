"""ModelService."""

from __future__ import annotations

from bertstream.server.model import Models, ServedModel
from bertstream.server.rpc import Call, Decoded
from bertstream.server.validation.encoding import available_outputs, default_pooling, effective_pooling
from bertstream.server.validation.names import OUTPUTS, WIRE_TYPES, value_of
from bertstream.v1 import models_pb2, types_pb2


class ModelService:
    """Describes the served models."""

    def __init__(self, models: Models, version: str) -> None:
        self._models = models
        self._version = version

    async def list_models(
        self, request: Decoded[models_pb2.ListModelsRequest], call: Call
    ) -> models_pb2.ListModelsResponse:
        request.value()
        listed = [describe(model) for model in self._models]
        return models_pb2.ListModelsResponse(models=listed, server_version=self._version)

    async def get_model(self, request: Decoded[models_pb2.GetModelRequest], call: Call) -> models_pb2.GetModelResponse:
        return models_pb2.GetModelResponse(model=describe(self._models.get(request.value().name)))


def describe(model: ServedModel) -> models_pb2.Model:
    """All that a client needs to know of a model."""
    its = model.description
    return models_pb2.Model(
        name=model.name,
        revision=its.revision,
        family=its.family,
        architecture=its.architecture,
        layers=its.layers,
        hidden_size=its.hidden_size,
        attention_heads=its.attention_heads,
        vocabulary_size=its.vocabulary_size,
        type_vocabulary_size=its.type_vocabulary_size,
        max_tokens=its.max_tokens,
        default_max_length=its.default_max_length,
        has_pooler=its.has_pooler,
        compute_type=value_of(WIRE_TYPES, its.compute_type),
        device=its.device,
        workers=model.dispatcher.workers,
        live_workers=len(model.dispatcher.live),
        native_operators=its.native_operators,
        default_pooling=effective_pooling(default_pooling(its)),
        prompts=its.prompts,
        default_prompt_name=its.default_prompt_name,
        special_tokens=[
            models_pb2.SpecialToken(role=role, token=token, id=token_id)
            for role, (token, token_id) in its.special_tokens.items()
        ],
        outputs=[value_of(OUTPUTS, output) for output in available_outputs(its)],
        heads=its.heads,
        limits=_limits(model),
        warnings=its.warnings,
    )


def _limits(model: ServedModel) -> models_pb2.ModelLimits:
    limits = model.limits
    return models_pb2.ModelLimits(
        max_texts=limits.max_texts,
        max_request_bytes=limits.max_request_bytes,
        max_response_bytes=limits.max_response_bytes,
        stream_window=types_pb2.StreamWindow(max_items=limits.stream_items, max_tokens=limits.stream_tokens),
    )
