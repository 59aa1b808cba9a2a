"""Parse what several requests have in common."""

from __future__ import annotations

from collections.abc import Mapping

from bertstream.server.core.errors import invalid
from bertstream.server.core.plans import EncodingPlan, output_sizes
from bertstream.server.core.sent import Sent
from bertstream.server.core.tokenization import Inputs, Side, Strategy, TokenizeOptions, Truncation
from bertstream.server.protocols.enums import name_of
from bertstream.server.protocols.tei_v1 import tei_pb2
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
    """Return how to cut a text, or the longer one of a pair; without `truncate` it is refused. Raises INVALID_ENUM."""
    side = name_of(DIRECTIONS, message.truncation_direction, "truncation_direction")
    strategy: Strategy = "longest_first" if message.truncate else "refuse"
    return Truncation(strategy, description.default_max_length, side)


def prompt_of(message: Encodable | tei_pb2.EncodeRequest, description: ModelDescription) -> str:
    """Return the text of the prompt that is named, or else of the checkpoint's default. Raises INVALID_PROMPT_NAME.

    The message lists the prompts in the form in which clients look for them there.
    """
    if not message.HasField("prompt_name"):
        return description.prompts.get(description.default_prompt_name, "")
    if message.prompt_name not in description.prompts:
        names = ", ".join(f'"{name}"' for name in sorted(description.prompts))
        there = f"Available prompts: [{names}]" if names else "this checkpoint has no prompts"
        raise invalid("prompt_name", f"no prompt has this name. {there}", "INVALID_PROMPT_NAME")
    return description.prompts[message.prompt_name]


def encoding_plan(
    message: Encodable, output_options: OutputOptions, description: ModelDescription, priority: int
) -> EncodingPlan:
    """Return the plan for a text whose outputs are known. Raises INVALID_ARGUMENT."""
    prompt = prompt_of(message, description)
    return EncodingPlan(
        output_options,
        TokenizeOptions(truncation_of(message, description)),
        add_special_tokens=None,
        prompt=prompt,
        prompt_asked=True,
        priority=priority,
        sizes=output_sizes(output_options, description),
        shown=frozenset(),
        type_ids=False,
    )


def sent(inputs: Inputs) -> Sent[Inputs]:
    """Return the one text or pair of a request."""
    return Sent(inputs, "inputs", "inputs", single=True)
