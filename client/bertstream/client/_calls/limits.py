"""How much goes into one message."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bertstream.client._calls.models import Descriptions, describe
from bertstream.client._calls.unary_calls import Operation
from bertstream.client._texts import MessageLimits, PreparedText
from bertstream.client._types import Model

MOST_TEXTS, MOST_BYTES = 256, (1 << 20) - (1 << 14)  # of one message; leaves a little room for the options
SMALL_LIST = 64  # up to this many texts go without the description of the model


def stream_limits(model: Model | None) -> MessageLimits:
    """Return how much goes into one message of a stream."""
    return _within(MessageLimits(), model)


def unary_limits(
    known: Descriptions,
    name: str,
    texts: Sequence[PreparedText],
    width: Callable[[Model], int] | None = None,
) -> Operation[MessageLimits]:
    """Return how much goes into one message of a unary call.

    A short list gets limits that are always safe, others those of the model's description. If each text is answered
    with a vector, `width` returns its length for a model, and the answer's size is limited too.
    """
    if len(texts) <= SMALL_LIST and sum(text.size for text in texts) <= MOST_BYTES:
        return MessageLimits(SMALL_LIST, MOST_BYTES)
    model = yield from describe(known, name)
    limits = _within(MessageLimits(MOST_TEXTS, MOST_BYTES), model)
    if model and width is not None and model.limits.max_response_bytes > 0:
        fitting = model.limits.max_response_bytes // (4 * width(model) + 64)
        limits = limits._replace(texts=max(1, min(limits.texts, fitting)))
    return limits


def _within(limits: MessageLimits, model: Model | None) -> MessageLimits:
    if model is None:
        return limits
    told = model.limits
    texts = told.max_texts if told.max_texts > 0 else limits.texts  # 0: not said; below, it makes no sense
    size = told.max_request_bytes if told.max_request_bytes > 0 else limits.largest
    return MessageLimits(min(limits.texts, texts), min(limits.bytes, size), size)
