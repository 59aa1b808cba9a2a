"""The methods of generation of the synchronous client."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any, Literal, TypeAlias, Unpack, overload

from bertstream.client._calls.progress import ProgressOption
from bertstream.client._calls.requests import Delivery, OnError
from bertstream.client._generation import operations
from bertstream.client._generation.calls import GenerateCall, GenerateStream, SummarizeCall
from bertstream.client._generation.options import GenerateOptions, SummarizeOptions
from bertstream.client._generation.pieces import pieces_request
from bertstream.client._generation.types import GeneratedBatch, Generation, GenerationPiece
from bertstream.client._reports import ReportOption
from bertstream.client._texts import Text
from bertstream.client._transport.sync_transport import SyncTransport
from bertstream.client._types import Tokens

One: TypeAlias = Literal[1] | None
"""A `num_return_sequences` that gives one answer for each prompt, rather than a list of answers."""
Prompts: TypeAlias = Iterable[Text | tuple[int, Text]]

# A str is also an iterable of str, but the overload for one prompt comes first, and so does that for one answer.
# mypy: disable-error-code="overload-overlap"


class GenerationMethods:
    """The methods of Client that generate text."""

    _transport: SyncTransport

    @overload
    def generate(
        self, prompts: str | Tokens, *, num_return_sequences: One = None, **options: Unpack[GenerateCall]
    ) -> Generation: ...
    @overload
    def generate(
        self, prompts: str | Tokens, *, num_return_sequences: int, **options: Unpack[GenerateCall]
    ) -> list[Generation]: ...
    @overload
    def generate(
        self, prompts: Iterable[Text], *, num_return_sequences: One = None, **options: Unpack[GenerateCall]
    ) -> list[Generation]: ...
    @overload
    def generate(
        self, prompts: Iterable[Text], *, num_return_sequences: int, **options: Unpack[GenerateCall]
    ) -> list[list[Generation]]: ...
    def generate(
        self,
        prompts: Text | Iterable[Text],
        *,
        num_return_sequences: int | None = None,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Any:
        """Return the text that a decoder generates after a prompt, or that an encoder-decoder generates from it.

        With `num_return_sequences` above 1 it is a list of answers, the best first. For a list of prompts the result is
        a list of the same.

        ```python
        print(client.generate("The quick brown", max_new_tokens=30).text)
        tales = client.generate("Once upon", num_return_sequences=3, do_sample=True, temperature=0.8, seed=1)
        ```

        A few prompts are one call, which raises Overloaded if the server is busy; more go over a stream, which waits,
        and which raises the error of the first prompt that fails. There is no time limit unless `timeout` is given; the
        client's own timeout does not apply. Raises FailedPrecondition if the model does not generate text.
        """
        return self._generate(
            operations.prompts_asked(prompts, report, num_return_sequences=num_return_sequences, **options), timeout
        )

    def stream_generate(
        self,
        prompt: Text | Iterable[Text],
        *,
        num_return_sequences: int | None = None,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Generator[GenerationPiece, None, None]:
        """Stream the answer to one prompt, piece by piece, and then a GenerationDone with the complete answer.

        ```python
        for piece in client.stream_generate("The quick brown"):
            print(piece, end="", flush=True)
        ```

        With `num_return_sequences` above 1 `sequence_index` says whose piece it is. There is no beam search, since it
        has no text before its end. Closing the generator cancels the call, and the server stops within a token. Where
        the connection breaks, it is asked for again with the same seed, for as long as the client's
        `reconnect_seconds`; what has come is compared and not given again. Unavailable is raised where that is in
        vain, or where other tokens come, such as from a model that has been replaced meanwhile. A str is as a list of
        one; token ids must be in such a list.
        """
        request = pieces_request(prompt, report, num_return_sequences=num_return_sequences, **options)
        return self._transport.events(request, timeout)

    @overload
    def generate_stream(
        self, prompts: Prompts, *, num_return_sequences: One = None, **options: Unpack[GenerateStream]
    ) -> Generator[GeneratedBatch[Generation], None, None]: ...
    @overload
    def generate_stream(
        self, prompts: Prompts, *, num_return_sequences: int, **options: Unpack[GenerateStream]
    ) -> Generator[GeneratedBatch[list[Generation]], None, None]: ...
    def generate_stream(
        self,
        prompts: Prompts,
        *,
        num_return_sequences: int | None = None,
        ordered: bool = True,
        on_error: OnError = "raise",
        batch_size: int = 16,
        progress: ProgressOption = False,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Generator[GeneratedBatch[Any], None, None]:
        """Stream answers to any number of prompts, in constant memory: as `encode_stream`, with those of `generate`.

        ```python
        for batch in client.generate_stream(articles, model="bert2bert", num_beams=4):
            for article_id, summary in zip(batch.ids, batch.results):
                ...
        ```

        The server works on as many prompts side by side as it can; with `ordered=False` answers come as they are ready.
        """
        request = operations.generate_request(
            Delivery(ordered, on_error, batch_size, progress, report),
            num_return_sequences=num_return_sequences,
            **options,
        )
        return self._transport.stream(request, prompts, timeout)

    @overload
    def summarize(self, texts: str | Tokens, **options: Unpack[SummarizeCall]) -> str: ...
    @overload
    def summarize(self, texts: Iterable[Text], **options: Unpack[SummarizeCall]) -> list[str]: ...
    def summarize(
        self,
        texts: Text | Iterable[Text],
        *,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[SummarizeOptions],
    ) -> Any:
        """Return the text that an encoder-decoder generates from a text, such as its summary.

        For a list of texts the result is a list. It works as `generate` does, but returns only the text.

        ```python
        summary = client.summarize(article, model="bert2bert", num_beams=4, no_repeat_ngram_size=3)
        ```

        A text that is too long for the encoder is cut; a `report` tells whether one was. Raises FailedPrecondition if
        the model is not an encoder-decoder.
        """
        asked = operations.summaries_asked(texts, report, **options)
        self._transport.run(operations.require_summaries(self._transport.descriptions, asked.options.model), timeout)
        found = self._generate(asked, timeout)
        return found.text if asked.alone else [each.text for each in found]

    def _generate(self, asked: operations.Asked, timeout: float | None) -> Any:
        if asked.few:
            return asked.result(self._transport.run(operations.generate(self._transport.descriptions, asked), timeout))
        batches = self._transport.stream(asked.stream(), asked.prompts, timeout)
        return asked.result([result for batch in batches for result in batch.results])
