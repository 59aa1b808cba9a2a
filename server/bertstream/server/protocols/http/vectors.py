"""Vectors, computed for a whole request and written as JSON."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.computing import check_answer_size
from bertstream.server.core.encoding import Encoded, encode, output_bytes
from bertstream.server.core.models import ServedModel
from bertstream.server.core.plans import EncodingPlan
from bertstream.server.core.preparation import Prepared, prepare
from bertstream.server.core.sent import SentTexts
from bertstream.server.protocols.http.answers import dumped
from bertstream.server.protocols.http.call import HttpCall
from bertstream.server.settings import Limits

LEAST_LIMIT = 16 << 20  # bytes of numbers: 4096 vectors of 1024; clients over HTTP have no bound of 4 MiB
_AT_ONCE = 1 << 17  # numbers that are written before others have their turn: about 5 ms


async def encode_request(
    model: ServedModel,
    plan: EncodingPlan,
    sent: SentTexts,
    call: HttpCall,
    advice: str = "send fewer or shorter texts",
) -> tuple[Prepared, Encoded]:
    """Compute the texts of a request, which fails as a whole; `advice` tells what to do if the answer is too large."""
    model.check_room(call.caller, call.deadline)
    prepared = await prepare(model, plan, sent)
    prepared.refuse_failed()
    check_answer_size(int(output_bytes(plan, prepared).sum()), limits_of(model), sent.path, advice)
    return prepared, await encode(model, plan, prepared, call)


def limits_of(model: ServedModel) -> Limits:
    """Return the limits of a model, with that of an answer as it is over HTTP."""
    return replace(model.limits, max_response_bytes=max(model.limits.max_response_bytes, LEAST_LIMIT))


def base64_of(numbers: NDArray[np.float32]) -> str:
    """Return numbers in Base64, row by row and little-endian, as OpenAI's clients read vectors."""
    return base64.b64encode(numbers.astype("<f4", copy=False).tobytes()).decode()


async def listed(rows: Iterable[NDArray[np.float32]], entry: Callable[[int, Any], Any]) -> list[bytes]:
    """Return a JSON list in parts, with the entry for each row, in turn with other calls where there are many."""
    parts = [part async for part in _parts(rows, entry)]
    return [b"[", *parts, b"]"]


async def _parts(rows: Iterable[NDArray[np.float32]], entry: Callable[[int, Any], Any]) -> AsyncIterator[bytes]:
    some: list[Any] = []
    numbers, comma = 0, b""
    for index, row in enumerate(rows):
        some.append(entry(index, row))
        numbers += row.size
        if numbers >= _AT_ONCE:
            yield comma + dumped(some)[1:-1]
            some, numbers, comma = [], 0, b","
            await asyncio.sleep(0)
    if some:
        yield comma + dumped(some)[1:-1]
