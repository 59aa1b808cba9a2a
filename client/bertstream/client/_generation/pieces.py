"""A stream of the pieces of one generation, without its I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from bertstream.client._errors import RpcError, Unavailable, unexpected_response
from bertstream.client._generation.decode import generations_of, piece_of
from bertstream.client._generation.options import generation_options
from bertstream.client._generation.reports import EffectiveGenerationOptions, effective_generation_options
from bertstream.client._generation.types import GenerationDone, GenerationPiece
from bertstream.client._reports import Report, ReportOption
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

    def events(self) -> PieceEvents:
        """Return the receiver of the messages."""
        return PieceEvents(self.message.options, self.report)


def pieces_request(prompt: Text | Iterable[Text], report: ReportOption = None, **given: Any) -> PiecesRequest:
    """Return the request of `stream_generate`. Raises ValueError unless there is exactly one prompt."""
    options, items = generation_options(**given), listed(prompt)[0]
    if len(items) != 1:
        raise ValueError(f"stream_generate takes one prompt, not {len(items)}; for several see generate_stream")
    text = prepare(items[0], 0)
    inputs = Group(text.kind, [0], [text.value], [None]).batch()
    return PiecesRequest(generation.StreamGenerationRequest(options=options, inputs=inputs), report)


class PieceEvents:
    """Receives the messages of one call, and returns the pieces as they come."""

    def __init__(self, asked: generation.GenerationOptions, report: ReportOption = None) -> None:
        self._asked, self._report = asked, report
        self._options: EffectiveGenerationOptions | None = None  # None until the server reports them
        self._done = False

    def receive(self, response: generation.StreamGenerationResponse) -> GenerationPiece | None:
        """Return a piece, or the GenerationDone at the end. Raises Internal if the message makes no sense."""
        if not self._done:
            match response.WhichOneof("event"):
                case "started" if self._options is None:
                    self._options = effective_generation_options(response.started.options)
                    return None
                case "piece" if self._options:
                    return piece_of(response.piece, self._asked)
                case "completed" if self._options:
                    return self._completed(self._options, response.completed)
        raise unexpected_response("a message of a stream of pieces out of turn")

    def failed(self, error: RpcError) -> RpcError:
        """Return the exception to raise if the call has failed."""
        if isinstance(error, Unavailable) and self._options:
            # The stream cannot be resumed; the message says that some pieces may have come already.
            error.message = f"the stream of pieces was interrupted: {error.message}"
        return error

    def ended(self) -> None:
        """Check that the call was complete. Raises Internal if something is missing."""
        if not self._done:
            raise unexpected_response("the stream of pieces ended before it was complete")

    def _completed(
        self, options: EffectiveGenerationOptions, message: generation.GenerationCompleted
    ) -> GenerationDone:
        usage, timings = cost_of(message)
        done = GenerationDone(outputs=generations_of(message.output, self._asked), usage=usage, timings=timings)
        self._done = True
        if self._report:
            self._report(Report(options, usage, timings))
        return done
