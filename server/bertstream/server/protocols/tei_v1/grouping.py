"""Prepare messages together and answer each: texts that are encoded, and items of a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.computing import check_answer_size
from bertstream.server.core.encoding import encode_some, output_bytes, window_costs
from bertstream.server.core.errors import RequestError
from bertstream.server.core.layout import Tensors, cut
from bertstream.server.core.plans import EncodingPlan
from bertstream.server.core.preparation import prepare
from bertstream.server.core.tasks.calls import Begin, prepare_each
from bertstream.server.core.tasks.calls import answer_some as answer_items
from bertstream.server.core.tokenization import Texts
from bertstream.server.protocols.ordered import Group, GroupAnswers
from bertstream.server.protocols.tei_v1 import tei_pb2
from bertstream.server.protocols.tei_v1.serving import Response, Turn
from bertstream.server.protocols.tei_v1.validation import sent
from bertstream.server.settings import Limits

Written = TypeVar("Written")
_SHORTER = "send a shorter text"


async def encoding_group(
    texts: Sequence[str], plan: EncodingPlan, turn: Turn, write: Callable[[Tensors, tei_pb2.Metadata], Response]
) -> Group[Response]:
    """Tokenize texts, one a message; what is left is to compute them, and to write the outputs of each."""
    model = turn.model
    turn.check_room()
    prepared = await prepare(model, plan, sent(Texts(texts)))
    sizes = output_bytes(plan, prepared)
    good, error = _before_first(prepared.failed, len(texts))
    good, error = _before_large(sizes[:good], error, model.limits)
    tokens = prepared.layout.lengths.tolist()

    async def answer(first: int, last: int) -> GroupAnswers[Response]:
        encoded, failed = await encode_some(model, plan, prepared, slice(first, last), turn.call, waits=turn.waits)
        layout, answers = prepared.layout.part(first, last), []
        for text in range(encoded.texts):
            metadata = turn.metadata(prepared.tokenize_seconds, encoded.outcomes)
            metadata.compute_chars, metadata.compute_tokens = len(texts[first + text]), tokens[first + text]
            answers.append(write(cut(encoded.tensors, layout, text, text + 1), metadata))
        return GroupAnswers(answers, failed)

    return Group(window_costs(plan, prepared, model)[:good], answer, error)


async def items_group(
    characters: Sequence[int],
    begin: Begin,
    turn: Turn,
    write: Callable[[Any], Sequence[Written]],
    respond: Callable[[Written, tei_pb2.Metadata], Response],
) -> Group[Response]:
    """Make rows of a task's items, one a message; what is left is to compute them, and to write the answer to each.

    characters: of each item. write: returns what is in the answer to each item, and runs in a thread.
    """
    model = turn.model
    turn.check_room()
    prepared = await prepare_each(model, begin)
    good, error = _before_first(prepared.rows.failed, len(characters))
    if prepared.rows.least_bytes is not None:
        good, error = _before_large(prepared.rows.least_bytes[:good], error, model.limits)
    tokens = prepared.rows.costs.tolist()

    async def answer(first: int, last: int) -> GroupAnswers[Response]:
        answered, failed = await answer_items(model, prepared, slice(first, last), write, turn.call, waits=turn.waits)
        answers: list[Response] = []
        for item, written in enumerate(answered.written if answered else ()):
            assert answered is not None
            metadata = turn.metadata(prepared.tokenize_seconds, answered.outcomes)
            metadata.compute_chars, metadata.compute_tokens = characters[first + item], tokens[first + item]
            answers.append(respond(written, metadata))
        sizes = np.array([response.ByteSize() for response in answers], np.int64)
        fit, failed = _before_large(sizes, failed, model.limits)
        return GroupAnswers(answers[:fit], failed)

    return Group(prepared.window_costs(model)[:good], answer, error)


def _before_first(failed: Mapping[int, RequestError], count: int) -> tuple[int, RequestError | None]:
    """Return how many messages come before the first that failed, and its error; all, and None, where none did."""
    first = min(failed, default=count)
    return first, failed.get(first)


def _before_large(
    sizes: NDArray[np.int64], error: RequestError | None, limits: Limits
) -> tuple[int, RequestError | None]:
    """Return how many answers come before the first that is too large, and its error; all, and `error`, else."""
    for place in np.flatnonzero(sizes > limits.max_response_bytes)[:1].tolist():
        try:
            check_answer_size(int(sizes[place]), limits, "inputs", _SHORTER)
        except RequestError as too_large:
            return place, too_large
    return sizes.size, error
