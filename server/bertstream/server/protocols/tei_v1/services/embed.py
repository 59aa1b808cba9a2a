"""Turn texts into vectors."""

from __future__ import annotations

from collections.abc import Callable

from bertstream.server.core.computing import check_answer_size
from bertstream.server.core.encoding import Encoded, encode, output_bytes, window_costs
from bertstream.server.core.models import Models
from bertstream.server.core.plans import EncodingPlan
from bertstream.server.core.preparation import prepare
from bertstream.server.core.tokenization import Texts
from bertstream.server.protocols.ordered import Step
from bertstream.server.protocols.rpc import Handler
from bertstream.server.protocols.tei_v1 import tei_pb2
from bertstream.server.protocols.tei_v1.choosing import EMBEDDING
from bertstream.server.protocols.tei_v1.defaults import pooling, refuse_sparse
from bertstream.server.protocols.tei_v1.serving import Operation, Response, Turn
from bertstream.server.protocols.tei_v1.validation import encoding_plan, prompt_of, sent, truncation_of
from bertstream.server.protocols.tei_v1.wire import write_floats
from bertstream.workers.contract import OutputOptions, Pooling
from bertstream.workers.programs.description import ModelDescription

Write = Callable[[Encoded, tei_pb2.Metadata], Response]


def handlers(models: Models) -> dict[str, Handler]:
    """Return the handler of each rpc."""
    pooled, tokens = Operation(models, EMBEDDING, embed), Operation(models, EMBEDDING, embed_all)
    sparse = Operation(models, EMBEDDING, embed_sparse)
    return {
        "Embed": pooled.one,
        "EmbedStream": pooled.many,
        "EmbedSparse": sparse.one,
        "EmbedSparseStream": sparse.many,
        "EmbedAll": tokens.one,
        "EmbedAllStream": tokens.many,
    }


async def embed(message: tei_pb2.EmbedRequest, turn: Turn) -> Step[tei_pb2.EmbedResponse]:
    """Prepare a text for its vector, pooled as the checkpoint says."""
    description = turn.model.description
    options = OutputOptions(("pooled",), _pooling(message, description))

    def write(encoded: Encoded, metadata: tei_pb2.Metadata) -> tei_pb2.EmbedResponse:
        response = tei_pb2.EmbedResponse(metadata=metadata)
        write_floats(response, encoded.tensors["pooled"][0])
        return response

    plan = encoding_plan(message, options, description, turn.priority)
    return await _encoding(message.inputs, plan, turn, write)


async def embed_all(message: tei_pb2.EmbedAllRequest, turn: Turn) -> Step[tei_pb2.EmbedAllResponse]:
    """Prepare a text for the states of its tokens after the last layer."""

    def write(encoded: Encoded, metadata: tei_pb2.Metadata) -> tei_pb2.EmbedAllResponse:
        response = tei_pb2.EmbedAllResponse(metadata=metadata)
        for row in encoded.tensors["last_hidden_state"]:
            write_floats(response.token_embeddings.add(), row)
        return response

    options = OutputOptions(("last_hidden_state",))
    plan = encoding_plan(message, options, turn.model.description, turn.priority)
    return await _encoding(message.inputs, plan, turn, write)


async def embed_sparse(message: tei_pb2.EmbedSparseRequest, turn: Turn) -> Step[tei_pb2.EmbedSparseResponse]:
    """Refuse a text, since no model of this server has sparse vectors; what is wrong with the request comes first."""
    truncation_of(message, turn.model.description)
    prompt_of(message, turn.model.description)
    refuse_sparse()


def _pooling(message: tei_pb2.EmbedRequest, description: ModelDescription) -> Pooling:
    """Return the checkpoint's pooling, with what the caller asks for. Raises INVALID_RANGE."""
    return pooling(
        description,
        normalize=message.normalize if message.HasField("normalize") else None,
        dimensions=message.dimensions if message.HasField("dimensions") else None,
    )


async def _encoding(text: str, plan: EncodingPlan, turn: Turn, write: Write[Response]) -> Step[Response]:
    """Tokenize one text; what is left is to compute it, and to write its outputs."""
    model = turn.model
    turn.check_room()
    prepared = await prepare(model, plan, sent(Texts([text])))
    prepared.refuse_failed()
    check_answer_size(int(output_bytes(plan, prepared).sum()), model.limits, "inputs", "send a shorter text")

    async def answer() -> Response:
        encoded = await encode(model, plan, prepared, turn.call, waits=turn.waits)
        tokens = int(prepared.batch.ids.size)
        metadata = turn.metadata(len(text), tokens, prepared.tokenize_seconds, encoded.outcomes)
        return write(encoded, metadata)

    return Step(int(window_costs(plan, prepared, model).sum()), answer)
