"""Generation, in the synchronous client."""

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
"""An answer for each prompt, rather than a list of answers."""
Prompts: TypeAlias = Iterable[Text | tuple[int, Text]]

# A str is an iterable of str too, but the overload for one prompt comes first; so does that for one answer.
# mypy: disable-error-code="overload-overlap"


class GenerationMethods:
    """What a client asks of a model that generates text; a part of Client."""

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
        """What a decoder goes on with after a prompt, or an encoder-decoder makes of it. With `num_return_sequences`
        above 1 a list of answers, the best first. Of a list of prompts a list of those.

        ```python
        print(client.generate("The quick brown", max_new_tokens=30).text)
        tales = client.generate("Once upon", num_return_sequences=3, do_sample=True, temperature=0.8, seed=1)
        ```

        A few prompts are one call, which raises Overloaded when the server is busy; more go over a stream, which waits,
        and of which the first prompt that fails is raised. Takes as long as it takes, unless `timeout` says: the
        client's own timeout is not for it. FailedPrecondition where the model does not generate.
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
        """The answer to one prompt, piece by piece as it comes; last a GenerationDone, an empty piece that has it all.

        ```python
        for piece in client.stream_generate("The quick brown"):
            print(piece, end="", flush=True)
        ```

        With `num_return_sequences` above 1 `sequence_index` says whose piece it is. There is no beam search, since it
        has no text before its end. Closing the generator cancels the call, and the server stops within a token. What
        has come cannot be resumed: where the connection breaks, Unavailable is raised. A str is as a list of one; token
        ids must be in such a list.
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
        """Answers to prompts of any number, in constant memory: as `encode_stream`, with what `generate` gives.

        ```python
        for batch in client.generate_stream(articles, model="bert2bert", num_beams=4):
            for article_id, summary in zip(batch.ids, batch.results):
                ...
        ```

        Prompts are generated for side by side, as many as the server can; `ordered=False` gives those that end sooner
        first.
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
        """What an encoder-decoder makes of a text, such as its summary; of a list of texts a list of those. As
        `generate`, but the text alone.

        ```python
        summary = client.summarize(article, model="bert2bert", num_beams=4, no_repeat_ngram_size=3)
        ```

        A text is cut to what the encoder takes; a `report` says whether one was. FailedPrecondition where the model is
        not an encoder-decoder.
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
