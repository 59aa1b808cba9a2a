"""A stream of the pieces of one generation, without its I/O."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

from bertstream.client._calls.backoff import Backoff, may_pass
from bertstream.client._errors import RpcError, Unavailable, unexpected_response
from bertstream.client._generation.decode import generations_of, piece_of
from bertstream.client._generation.options import generation_options
from bertstream.client._generation.reports import EffectiveGenerationOptions, effective_generation_options
from bertstream.client._generation.types import GenerationDone, GenerationPiece
from bertstream.client._reports import Report, ReportOption, check_report
from bertstream.client._texts import Group, Text, listed, prepare
from bertstream.client._types import Model
from bertstream.client._usage import cost_of
from bertstream.v1 import generation_pb2 as generation

PIECES_RPC = "StreamGeneration"


class PiecesRequest(NamedTuple):
    """A stream of one generation that is yet to be opened."""

    message: generation.StreamGenerationRequest
    report: ReportOption
    needs_model: bool = False

    @property
    def rpc(self) -> str:
        """The name of the rpc."""
        return PIECES_RPC

    @property
    def model(self) -> str:
        """The model's name."""
        return self.message.options.model

    def message_for(self, model: Model | None) -> generation.StreamGenerationRequest:
        """Return the request."""
        return self.message

    def events(self, reconnect_seconds: float) -> PieceEvents:
        """Return what takes the answers. It writes a seed that was drawn into the message, for another call."""
        return PieceEvents(self.message, self.report, reconnect_seconds)


def pieces_request(prompt: Text | Iterable[Text], report: ReportOption = None, **given: Any) -> PiecesRequest:
    """Return the request of `stream_generate`. Raises ValueError unless there is exactly one prompt."""
    check_report(report)
    options, items = generation_options(**given), listed(prompt)[0]
    if len(items) != 1:
        raise ValueError(f"stream_generate takes one prompt, not {len(items)}; for several see generate_stream")
    text = prepare(items[0], 0)
    inputs = Group(text.kind, [0], [text.value], [None]).batch()
    return PiecesRequest(generation.StreamGenerationRequest(options=options, inputs=inputs), report)


class PieceEvents:
    """Takes the messages of a call, and gives the pieces as they come.

    A call that breaks is made again. The same prompt with the same seed has the same answers, so what the caller has
    already is compared, and left out.
    """

    def __init__(
        self, request: generation.StreamGenerationRequest, report: ReportOption = None, reconnect_seconds: float = 0.0
    ) -> None:
        self._request, self._asked, self._report = request, request.options, report
        self._backoff = Backoff(reconnect_seconds)
        self._given: defaultdict[int, _Given] = defaultdict(_Given)  # of each answer
        self._options: EffectiveGenerationOptions | None = None  # since the server has said, on any call
        self._started = self._done = self._changed = False

    def receive(self, response: generation.StreamGenerationResponse) -> GenerationPiece | None:
        """Return a piece, or at last a GenerationDone.

        Raises Internal where the message makes no sense, and Unavailable where the answer is not the one of which
        pieces have been given.
        """
        if not self._done:
            match response.WhichOneof("event"):
                case "started" if not self._started:
                    self._start(response.started.options)
                    return None
                case "piece" if self._started:
                    return self._new_of(piece_of(response.piece, self._asked))
                case "completed" if self._options and self._started:
                    return self._completed(self._options, response.completed)
        raise unexpected_response("a message of a stream of pieces out of turn")

    def broken(self, error: RpcError) -> float:
        """Return the seconds after which to ask again. Raises the error where that is of no use, or was for too long.

        A call that has not begun is left to gRPC's own retries.
        """
        if self._options is None or self._changed or not may_pass(error):
            raise error
        delay = self._backoff.next_delay(error)
        if delay is None:
            error.message = f"the stream of pieces was interrupted: {error.message}"
            raise error
        self._started = False
        for given in self._given.values():
            given.begin_again()
        return delay

    def ended(self) -> None:
        """Note that the call has ended well. Raises Internal where something is missing."""
        if not self._done:
            raise unexpected_response("the stream of pieces ended before it was complete")

    def _start(self, options: generation.GenerationOptions) -> None:
        self._started, self._options = True, effective_generation_options(options)
        if options.HasField("seed"):  # it may have been drawn, and another call would draw another one
            self._request.options.seed = options.seed

    def _new_of(self, piece: GenerationPiece) -> GenerationPiece | None:
        """Return what the caller has not had yet of a piece."""
        new = self._given[piece.sequence_index].new_of(piece)
        if new is None:
            self._changed = True
            message = "the stream of pieces was interrupted, and goes on with other tokens than have come; ask anew"
            raise Unavailable(message, reason="ANSWER_CHANGED")
        if not (new.text or new.token_ids):
            return None
        self._backoff.reset()
        return new

    def _completed(
        self, options: EffectiveGenerationOptions, message: generation.GenerationCompleted
    ) -> GenerationDone:
        usage, timings = cost_of(message)
        done = GenerationDone(outputs=generations_of(message.output, self._asked), usage=usage, timings=timings)
        self._done = True
        if self._report:
            self._report(Report(options, usage, timings))
        return done


class _Given:
    """What the caller has of one answer, and how much of that has come again on the call that is under way."""

    def __init__(self) -> None:
        self._text, self._tokens = "", list[int]()
        self._text_again = self._tokens_again = 0

    def begin_again(self) -> None:
        """Expect all of it anew."""
        self._text_again = self._tokens_again = 0

    def new_of(self, piece: GenerationPiece) -> GenerationPiece | None:
        """Return the part of a piece that is new; None where the piece is of another answer."""
        text = self._text[self._text_again : self._text_again + len(piece.text)]
        tokens = tuple(self._tokens[self._tokens_again : self._tokens_again + len(piece.token_ids)])
        if not piece.text.startswith(text) or piece.token_ids[: len(tokens)] != tokens:
            return None
        self._text_again += len(piece.text)
        self._tokens_again += len(piece.token_ids)
        scores = None if piece.token_scores is None else piece.token_scores[len(tokens) :]
        new = GenerationPiece(piece.text[len(text) :], piece.token_ids[len(tokens) :], piece.sequence_index, scores)
        self._text += new.text
        self._tokens.extend(new.token_ids)
        return new
