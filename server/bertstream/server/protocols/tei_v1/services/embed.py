"""Turn texts into vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bertstream.server.core.layout import Tensors
from bertstream.server.core.models import Models
from bertstream.server.core.sent import SentItems
from bertstream.server.core.tasks.sparse import EncodeSparse, SparseVectors
from bertstream.server.core.tokenization import Texts
from bertstream.server.protocols.ordered import Group
from bertstream.server.protocols.rpc import Handler
from bertstream.server.protocols.tei_v1 import tei_pb2
from bertstream.server.protocols.tei_v1.choosing import EMBEDDING, SPARSE
from bertstream.server.protocols.tei_v1.defaults import pooling, sparse_task
from bertstream.server.protocols.tei_v1.grouping import encoding_group, items_group
from bertstream.server.protocols.tei_v1.serving import Operation, Turn
from bertstream.server.protocols.tei_v1.validation import encoding_plan, prompt_of, sent, truncation_of
from bertstream.server.protocols.tei_v1.wire import write_floats
from bertstream.workers.contract import OutputOptions, Pooling
from bertstream.workers.programs.description import ModelDescription
from bertstream.workers.ragged import starts_of


def handlers(models: Models) -> dict[str, Handler]:
    """Return the handler of each rpc."""
    pooled, tokens = Operation(models, EMBEDDING, embed), Operation(models, EMBEDDING, embed_all)
    sparse = Operation(models, SPARSE, embed_sparse)
    return {
        "Embed": pooled.one,
        "EmbedStream": pooled.many,
        "EmbedSparse": sparse.one,
        "EmbedSparseStream": sparse.many,
        "EmbedAll": tokens.one,
        "EmbedAllStream": tokens.many,
    }


async def embed(messages: Sequence[tei_pb2.EmbedRequest], turn: Turn) -> Group[tei_pb2.EmbedResponse]:
    """Prepare texts for their vectors, pooled as the checkpoint says."""
    description = turn.model.description
    options = OutputOptions(("pooled",), _pooling(messages[0], description))

    def write(outputs: Tensors, metadata: tei_pb2.Metadata) -> tei_pb2.EmbedResponse:
        response = tei_pb2.EmbedResponse(metadata=metadata)
        write_floats(response, outputs["pooled"][0])
        return response

    plan = encoding_plan(messages[0], options, description, turn.priority)
    return await encoding_group([message.inputs for message in messages], plan, turn, write)


async def embed_all(messages: Sequence[tei_pb2.EmbedAllRequest], turn: Turn) -> Group[tei_pb2.EmbedAllResponse]:
    """Prepare texts for the states of their tokens after the last layer."""

    def write(outputs: Tensors, metadata: tei_pb2.Metadata) -> tei_pb2.EmbedAllResponse:
        response = tei_pb2.EmbedAllResponse(metadata=metadata)
        for row in outputs["last_hidden_state"]:
            write_floats(response.token_embeddings.add(), row)
        return response

    options = OutputOptions(("last_hidden_state",))
    plan = encoding_plan(messages[0], options, turn.model.description, turn.priority)
    return await encoding_group([message.inputs for message in messages], plan, turn, write)


async def embed_sparse(
    messages: Sequence[tei_pb2.EmbedSparseRequest], turn: Turn
) -> Group[tei_pb2.EmbedSparseResponse]:
    """Prepare texts for the weights of the vocabulary's ids, in the order of the ids."""
    model, texts = turn.model, [message.inputs for message in messages]

    def begin() -> tuple[EncodeSparse, SentItems]:
        description = model.description
        truncation, prompt = truncation_of(messages[0], description), prompt_of(messages[0], description)
        return sparse_task(model, truncation, prompt, turn.priority), sent(Texts(texts))

    def respond(values: list[tei_pb2.SparseValue], metadata: tei_pb2.Metadata) -> tei_pb2.EmbedSparseResponse:
        return tei_pb2.EmbedSparseResponse(sparse_embeddings=values, metadata=metadata)

    return await items_group([len(text) for text in texts], begin, turn, _values, respond)


def _values(answer: SparseVectors) -> list[list[tei_pb2.SparseValue]]:
    pairs = zip(answer.token_ids.tolist(), answer.weights.tolist(), strict=True)
    values = [tei_pb2.SparseValue(index=index, value=value) for index, value in pairs]
    counts = np.asarray(answer.weight_counts, np.int64)
    return [values[start : start + count] for start, count in zip(starts_of(counts), counts, strict=True)]


def _pooling(message: tei_pb2.EmbedRequest, description: ModelDescription) -> Pooling:
    """Return the checkpoint's pooling, with what the caller asks for. Raises INVALID_RANGE."""
    return pooling(
        description,
        normalize=message.normalize if message.HasField("normalize") else None,
        dimensions=message.dimensions if message.HasField("dimensions") else None,
    )
