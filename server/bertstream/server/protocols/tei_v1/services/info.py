"""Tell what is known of a model."""

from __future__ import annotations

from bertstream.server.core.models import Models, ServedModel
from bertstream.server.protocols.call import Call
from bertstream.server.protocols.decoding import Decoded
from bertstream.server.protocols.rpc import Handler
from bertstream.server.protocols.tei_v1 import tei_pb2
from bertstream.server.protocols.tei_v1.choosing import ANY, type_of


def handlers(models: Models, version: str, tokenizer_threads: int) -> dict[str, Handler]:
    """Return the handler of the rpc; `version` is the server's."""

    async def info(request: Decoded[tei_pb2.InfoRequest], call: Call) -> tei_pb2.InfoResponse:
        request.value()
        return describe(ANY.choose(models, call), version, tokenizer_threads)

    return {"Info": info}


def describe(model: ServedModel, version: str, tokenizer_threads: int) -> tei_pb2.InfoResponse:
    """Return what the protocol tells of a model."""
    description, limits = model.description, model.limits
    return tei_pb2.InfoResponse(
        version=version,
        model_id=model.name,
        model_sha=description.revision,
        model_dtype=description.compute_type,
        model_type=type_of(description),
        max_concurrent_requests=limits.concurrent_calls,
        max_input_length=description.default_max_length,
        max_batch_tokens=model.dispatcher.batch_tokens,
        max_client_batch_size=limits.max_texts,
        tokenization_workers=tokenizer_threads,
    )
