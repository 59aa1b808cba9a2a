# ruff: noqa: ASYNC109 - a timeout here is the deadline that is sent to the server
"""The methods of generation of the asynchronous client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable
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
from bertstream.client._transport.async_transport import AsyncTransport
from bertstream.client._types import Tokens

One: TypeAlias = Literal[1] | None
"""A `num_return_sequences` that gives one answer for each prompt, rather than a list of answers."""
Prompts: TypeAlias = Iterable[Text | tuple[int, Text]] | AsyncIterable[Text | tuple[int, Text]]

# A str is also an iterable of str, but the overload for one prompt comes first, and so does that for one answer.
# mypy: disable-error-code="overload-overlap"


class AsyncGenerationMethods:
    """The methods of AsyncClient that generate text."""

    _transport: AsyncTransport

    @overload
    async def generate(
        self, prompts: str | Tokens, *, num_return_sequences: One = None, **options: Unpack[GenerateCall]
    ) -> Generation: ...
    @overload
    async def generate(
        self, prompts: str | Tokens, *, num_return_sequences: int, **options: Unpack[GenerateCall]
    ) -> list[Generation]: ...
    @overload
    async def generate(
        self, prompts: Iterable[Text], *, num_return_sequences: One = None, **options: Unpack[GenerateCall]
    ) -> list[Generation]: ...
    @overload
    async def generate(
        self, prompts: Iterable[Text], *, num_return_sequences: int, **options: Unpack[GenerateCall]
    ) -> list[list[Generation]]: ...
    async def generate(
        self,
        prompts: Text | Iterable[Text],
        *,
        num_return_sequences: int | None = None,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Any:
        """See Client.generate."""
        return await self._generate(
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
    ) -> AsyncGenerator[GenerationPiece, None]:
        """See Client.stream_generate."""
        request = pieces_request(prompt, report, num_return_sequences=num_return_sequences, **options)
        return self._transport.events(request, timeout)

    @overload
    def generate_stream(
        self, prompts: Prompts, *, num_return_sequences: One = None, **options: Unpack[GenerateStream]
    ) -> AsyncGenerator[GeneratedBatch[Generation], None]: ...
    @overload
    def generate_stream(
        self, prompts: Prompts, *, num_return_sequences: int, **options: Unpack[GenerateStream]
    ) -> AsyncGenerator[GeneratedBatch[list[Generation]], None]: ...
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
    ) -> AsyncGenerator[GeneratedBatch[Any], None]:
        """See Client.generate_stream. A synchronous iterable is iterated in the event loop, so it should not block."""
        request = operations.generate_request(
            Delivery(ordered, on_error, batch_size, progress, report),
            num_return_sequences=num_return_sequences,
            **options,
        )
        return self._transport.stream(request, prompts, timeout)

    @overload
    async def summarize(self, texts: str | Tokens, **options: Unpack[SummarizeCall]) -> str: ...
    @overload
    async def summarize(self, texts: Iterable[Text], **options: Unpack[SummarizeCall]) -> list[str]: ...
    async def summarize(
        self,
        texts: Text | Iterable[Text],
        *,
        report: ReportOption = None,
        timeout: float | None = None,
        **options: Unpack[SummarizeOptions],
    ) -> Any:
        """See Client.summarize."""
        asked = operations.summaries_asked(texts, report, **options)
        await self._transport.run(
            operations.require_summaries(self._transport.descriptions, asked.options.model), timeout
        )
        found = await self._generate(asked, timeout)
        return found.text if asked.alone else [each.text for each in found]

    async def _generate(self, asked: operations.Asked, timeout: float | None) -> Any:
        if asked.few:
            return asked.result(
                await self._transport.run(operations.generate(self._transport.descriptions, asked), timeout)
            )
        batches = self._transport.stream(asked.stream(), asked.prompts, timeout)
        return asked.result([result async for batch in batches for result in batch.results])
