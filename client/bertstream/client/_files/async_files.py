# ruff: noqa: ASYNC109 - a timeout here is the deadline that is sent to the server
"""The methods of the asynchronous client that read and write files; reading and writing is done in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, closing
from typing import Any, Unpack

from bertstream.client._calls.models import get_model
from bertstream.client._files.options import (
    EncodeFileOptions,
    EncodeMultiFileOptions,
    GenerateFileOptions,
    SummarizeFileOptions,
    TokenizeFileOptions,
)
from bertstream.client._files.runs import SUMMARIZE, File, Files, file_run, outcomes
from bertstream.client._generation.operations import require_summaries
from bertstream.client._transport.async_transport import AsyncTransport
from bertstream.files.asked import FileReport
from bertstream.files.job import Job


class AsyncFileMethods:
    """The methods of AsyncClient that read and write files."""

    _transport: AsyncTransport

    async def encode_file(
        self, source: Files, output: File, *, timeout: float | None = None, **options: Unpack[EncodeFileOptions]
    ) -> FileReport:
        """See Client.encode_file."""
        return await self._run_files("encode", source, output, timeout, options)

    async def encode_multi_file(
        self, source: Files, output: File, *, timeout: float | None = None, **options: Unpack[EncodeMultiFileOptions]
    ) -> FileReport:
        """See Client.encode_multi_file."""
        return await self._run_files("encode_multi", source, output, timeout, options)

    async def tokenize_file(
        self, source: Files, output: File, *, timeout: float | None = None, **options: Unpack[TokenizeFileOptions]
    ) -> FileReport:
        """See Client.tokenize_file."""
        return await self._run_files("tokenize", source, output, timeout, options)

    async def predict_file(
        self, task: str, source: Files, output: File, *, timeout: float | None = None, **options: Any
    ) -> FileReport:
        """See Client.predict_file."""
        return await self._run_files(task, source, output, timeout, options)

    async def generate_file(
        self, source: Files, output: File, *, timeout: float | None = None, **options: Unpack[GenerateFileOptions]
    ) -> FileReport:
        """See Client.generate_file."""
        return await self._run_files("generate", source, output, timeout, options)

    async def summarize_file(
        self, source: Files, output: File, *, timeout: float | None = None, **options: Unpack[SummarizeFileOptions]
    ) -> FileReport:
        """See Client.summarize_file."""
        return await self._run_files(SUMMARIZE, source, output, timeout, options)

    async def _run_files(
        self, task: str, source: Files, output: File, timeout: float | None, options: Mapping[str, Any]
    ) -> FileReport:
        run = await asyncio.to_thread(file_run, task, source, output, options)
        if task == SUMMARIZE:
            await self._transport.run(require_summaries(self._transport.descriptions, run.request.model), timeout)
        model = await self._transport.run(get_model(run.request.model), timeout)
        with run.job(model) as job:
            async with (
                aclosing(_items(job)) as items,
                aclosing(self._transport.stream(run.request, items, timeout)) as batches,
            ):
                async for batch in batches:
                    await asyncio.to_thread(job.take, outcomes(batch))
            return await asyncio.to_thread(job.finish)


async def _items(job: Job) -> AsyncGenerator[tuple[int, Any], None]:
    with closing(job.item_lists()) as lists:
        while (some := await asyncio.to_thread(next, lists, None)) is not None:
            for item in some:
                yield item
