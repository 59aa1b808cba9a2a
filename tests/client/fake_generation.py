# ruff: noqa: N802 - rpcs are named as in the .proto files
"""A GenerationService whose answers follow from the prompts, with scores that float32 represents exactly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from bertstream.v1 import generation_pb2 as generation
from bertstream.v1 import generation_pb2_grpc as generation_grpc
from bertstream.v1 import types_pb2 as types
from tests.client.fake_encodings import keys_of
from tests.client.fake_status import abort, refuse_bad

GENERATING = ("causal_lm", "sequence_to_sequence")


class Token(NamedTuple):
    """A token of an answer: its id, its text and its score."""

    id: int
    text: str
    score: float


def tokens_of(key: str, sequence: int, options: generation.GenerationOptions) -> list[Token]:
    """Return the words w0, w1, … of an answer, the first of which names the prompt."""
    texts = [f"{key}>{sequence}", *(f" w{number}" for number in range(1, options.max_new_tokens))]
    first = 100 * sequence + 1000 * (options.seed % 10) * options.do_sample
    return [Token(first + number, text, -(number + 1) / 8) for number, text in enumerate(texts)]


def answer_to(key: str, sequence: int, options: generation.GenerationOptions) -> generation.GeneratedText:
    """Return one answer, up to a stop string or an end-of-sequence token."""
    tokens, reason = tokens_of(key, sequence, options), generation.FINISH_REASON_LENGTH
    ends = [place for place, token in enumerate(tokens) if token.id in options.eos_token_ids]
    if ends:
        tokens, reason = tokens[: ends[0] + 1], generation.FINISH_REASON_END_OF_SEQUENCE
    text = "".join(token.text for token in tokens)
    stops = [text.index(stop) for stop in options.stop_strings if stop in text]
    if stops:
        text, reason = text[: min(stops)], generation.FINISH_REASON_STOP_STRING
    message = generation.GeneratedText(text=text, token_ids=[token.id for token in tokens], finish_reason=reason)
    message.score = sum(token.score for token in tokens)
    if options.token_scores:
        message.token_scores.extend(token.score for token in tokens)
    return message


def answers_to(key: str, options: generation.GenerationOptions) -> generation.GeneratedTexts:
    """Return all answers to a prompt."""
    texts = [answer_to(key, sequence, options) for sequence in range(options.num_return_sequences)]
    return generation.GeneratedTexts(texts=texts, input_tokens=len(key))


def pieces_of(key: str, options: generation.GenerationOptions) -> Iterator[generation.GeneratedPiece]:
    """Yield the answers' tokens in turns; the text of each comes with the next token."""
    answers = [tokens_of(key, sequence, options) for sequence in range(options.num_return_sequences)]
    for step in range(options.max_new_tokens + 1):
        for sequence, tokens in enumerate(answers):
            piece = generation.GeneratedPiece(sequence_index=sequence)
            piece.text = tokens[step - 1].text if step else ""
            piece.token_ids.extend(token.id for token in tokens[step : step + 1])
            if options.token_scores:
                piece.token_scores.extend(token.score for token in tokens[step : step + 1])
            yield piece


def effective(options: generation.GenerationOptions, drawn: int = 0) -> generation.GenerationOptions:
    """Return the options with their defaults filled in, and the seed that was drawn where none was given."""
    done = generation.GenerationOptions()
    done.CopyFrom(options)
    done.model, done.priority = options.model or "tiny", options.priority or types.PRIORITY_BULK
    done.max_new_tokens = options.max_new_tokens or 3
    done.num_return_sequences = options.num_return_sequences or 4  # as in some checkpoint's config
    done.num_beams = options.num_beams or 1
    if options.do_sample and not options.HasField("seed"):
        done.seed = drawn
    done.truncation.max_length = options.truncation.max_length or 32
    done.truncation.strategy = options.truncation.strategy or types.TRUNCATION_STRATEGY_LONGEST_FIRST
    done.truncation.side = options.truncation.side or types.TRUNCATION_SIDE_LEFT
    return done


def add_cost(message: Any, outputs: list[generation.GeneratedTexts]) -> None:
    """Add usage and timings to an answer; prompts of more than 20 characters count as cut."""
    usage = message.usage
    usage.inputs, usage.input_tokens = len(outputs), sum(output.input_tokens for output in outputs)
    usage.generated_tokens = sum(len(text.token_ids) for output in outputs for text in output.texts)
    usage.truncated_inputs = sum(output.input_tokens > 20 for output in outputs)
    message.timings.compute.nanos, message.timings.total.seconds = 500_000_000, 2


class FakeGeneration(generation_grpc.GenerationServiceServicer):
    """The rpcs of generation; `self` is a FakeServer."""

    def GenerateTexts(self: Any, request: Any, context: Any) -> generation.GenerateTextsResponse:
        self._enter("GenerateTexts", request, context)
        keys, options = keys_of(request.inputs), effective(request.options)
        assert 0 < len(keys) <= self.does.model.limits.max_texts
        refuse_bad(keys, context)
        self.stalled()
        answer = generation.GenerateTextsResponse(options=options, outputs=[answers_to(key, options) for key in keys])
        add_cost(answer, list(answer.outputs))
        self.spoil_outputs(answer.outputs)
        return answer

    def StreamGeneration(self: Any, request: Any, context: Any) -> Iterator[generation.StreamGenerationResponse]:
        self._enter("StreamGeneration", request, context)
        (key,), options = keys_of(request.inputs), effective(request.options, self.seen.rpcs["StreamGeneration"])
        refuse_bad([key], context)
        if self.does.broken_part == "tokens":
            options.do_sample, options.seed = True, 9  # as if by another model
        limit, failure = self.does.breaks.popleft() if self.does.breaks else (None, None)
        for number, response in enumerate(self._events(key, options)):
            if failure and number == limit:
                abort(context, failure)
            yield response

    def StreamGeneratedTexts(
        self: Any, requests: Any, context: Any
    ) -> Iterator[generation.StreamGeneratedTextsResponse]:
        self._enter("StreamGeneratedTexts", None, context)
        self.seen.task = options = effective(next(requests).options)
        started = generation.GenerationStreamStarted(options=options)
        started.window.max_items = self.does.window
        yield generation.StreamGeneratedTextsResponse(started=started)
        for ids, keys, errors in self._answers(requests, context):
            outputs = [answers_to(key, options) for key in keys]
            items = generation.GeneratedItems(ids=ids, outputs=outputs, errors=errors)
            add_cost(items, outputs)
            self.spoil_outputs(items.outputs)
            yield generation.StreamGeneratedTextsResponse(items=items)

    def spoil_outputs(self: Any, outputs: Any) -> None:
        """Change an answer so that it makes no sense, if the behaviour says so."""
        match self.does.broken_part:
            case "output":
                del outputs[-1]
            case "answer":
                del outputs[-1].texts[-1]
            case "score":
                outputs[-1].texts[-1].token_scores.append(0)

    def _events(
        self: Any, key: str, options: generation.GenerationOptions
    ) -> Iterator[generation.StreamGenerationResponse]:
        started = generation.GenerationStarted(options=options, input_tokens=len(key))
        yield generation.StreamGenerationResponse(started=started)
        for number, piece in enumerate(pieces_of(key, options)):
            if number:
                self.at_the_gate()
            self.seen.pieces += 1
            yield generation.StreamGenerationResponse(piece=piece)
        completed = generation.GenerationCompleted(output=answers_to(key, options))
        add_cost(completed, [completed.output])
        if not self.does.bad_answer:
            yield generation.StreamGenerationResponse(completed=completed)
