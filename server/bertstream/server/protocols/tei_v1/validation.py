"""Parse what several requests have in common."""

from __future__ import annotations

from collections.abc import Mapping

from bertstream.server.core.plans import EncodingPlan
from bertstream.server.core.sent import Sent
from bertstream.server.core.tokenization import Inputs, Side, Truncation
from bertstream.server.protocols.enums import name_of
from bertstream.server.protocols.tei_v1 import defaults, tei_pb2
from bertstream.workers.contract import OutputOptions
from bertstream.workers.programs.description import ModelDescription

DIRECTIONS: Mapping[int, Side] = {
    tei_pb2.TRUNCATION_DIRECTION_RIGHT: "right",
    tei_pb2.TRUNCATION_DIRECTION_LEFT: "left",
}


Encodable = tei_pb2.EmbedRequest | tei_pb2.EmbedSparseRequest | tei_pb2.EmbedAllRequest
Classifiable = tei_pb2.PredictRequest | tei_pb2.PredictPairRequest
Rerankable = tei_pb2.RerankRequest | tei_pb2.RerankStreamRequest


def truncation_of(message: Encodable | Classifiable | Rerankable, description: ModelDescription) -> Truncation:
    """Return how to cut a text, or the longer one of a pair. Raises INVALID_ENUM."""
    side = name_of(DIRECTIONS, message.truncation_direction, "truncation_direction")
    return defaults.truncation(description, truncate=message.truncate, side=side)


def prompt_of(message: Encodable | tei_pb2.EncodeRequest, description: ModelDescription) -> str:
    """Return the text of the prompt that is named, or else of the checkpoint's default. Raises INVALID_PROMPT_NAME."""
    return defaults.prompt(message.prompt_name if message.HasField("prompt_name") else None, description)


def encoding_plan(
    message: Encodable, output_options: OutputOptions, description: ModelDescription, priority: int
) -> EncodingPlan:
    """Return the plan for a text whose outputs are known. Raises INVALID_ARGUMENT."""
    prompt = prompt_of(message, description)
    return defaults.plan(output_options, truncation_of(message, description), prompt, description, priority)


def sent(inputs: Inputs) -> Sent[Inputs]:
    """Return the one text or pair of a request."""
    return Sent(inputs, "inputs", "inputs", single=True)
