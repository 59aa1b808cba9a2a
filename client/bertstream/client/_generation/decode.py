"""Messages of generation to the SDK's values. All functions raise Internal for a message that makes no sense."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from bertstream.client._enums import name_of
from bertstream.client._errors import unexpected_response
from bertstream.client._generation.types import FinishReason, Generation, GenerationPiece
from bertstream.v1 import generation_pb2 as generation


def generations_of(message: generation.GeneratedTexts, options: generation.GenerationOptions) -> list[Generation]:
    """Return the answers to one prompt, the best first: as many as were asked for."""
    if len(message.texts) != options.num_return_sequences:
        raise unexpected_response(f"{len(message.texts)} answers where {options.num_return_sequences} were asked for")
    return [_generation_of(text, message.input_tokens, options) for text in message.texts]


def piece_of(message: generation.GeneratedPiece, options: generation.GenerationOptions) -> GenerationPiece:
    """Return a piece of one of the answers that were asked for."""
    index = message.sequence_index
    if not 0 <= index < options.num_return_sequences:
        raise unexpected_response(f"a piece of answer {index}, of {options.num_return_sequences}")
    scores = _scores(message.token_scores, message.token_ids, options)
    return GenerationPiece(message.text, tuple(message.token_ids), index, scores)


def _generation_of(
    message: generation.GeneratedText, input_tokens: int, options: generation.GenerationOptions
) -> Generation:
    reason = cast(FinishReason, name_of(generation.FinishReason, message.finish_reason))
    scores = _scores(message.token_scores, message.token_ids, options)
    return Generation(message.text, tuple(message.token_ids), reason, message.score, scores, input_tokens)


def _scores(
    scores: Sequence[float], tokens: Sequence[int], options: generation.GenerationOptions
) -> tuple[float, ...] | None:
    if not options.token_scores:
        return None
    if len(scores) != len(tokens):
        raise unexpected_response(f"{len(scores)} scores of {len(tokens)} tokens")
    return tuple(scores)
