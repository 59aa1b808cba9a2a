"""Ask a client for many answers, whatever the task: one outcome for each item, in their order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from bertstream.client import AsyncClient, ItemError
from bertstream.files.rows import Failure

BATCH_TEXTS = 256  # of a message: many enough that its cost is shared, few enough that answers come while others wait


async def ask(client: AsyncClient, name: str, items: Sequence[Any], options: Mapping[str, Any]) -> list[Any]:
    """Return for each item its answer or a Failure.

    name: the SDK's method, as in OPERATIONS. Raises the SDK's exceptions where the request as a whole is wrong.
    """
    outcomes: list[Any] = [None] * len(items)
    async for batch in _stream(client, name, list(enumerate(items)), options):
        for failed in batch.errors:
            outcomes[failed.id] = failure_of(failed)
        for number, answer in _answers(batch):
            if outcomes[number] is None:
                outcomes[number] = answer
    return outcomes


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise ValueError or TypeError for options that the method does not have, or not with such values."""
    _stream(AsyncClient(), name, [], options)  # checks them at once, and connects only when it is iterated


def failure_of(failed: ItemError) -> Failure:
    """Return why an item failed."""
    error = failed.error
    return Failure(error.reason or error.status, error.message, error.status)


def _stream(client: AsyncClient, name: str, items: list[tuple[int, Any]], options: Mapping[str, Any]) -> Any:
    given: dict[str, Any] = {"ordered": False, "on_error": "collect", "batch_size": BATCH_TEXTS, **options}
    match name:
        case "encode":
            return client.encode_stream(items, **given)
        case "encode_multi":
            return client.forward_stream(items, ["token_vectors"], **given)
        case "tokenize":
            return client.tokenize_stream(items, **given)
        case "generate" | "summarize":
            return client.generate_stream(items, **given)
    return client.predict_stream(name, items, **given)  # type: ignore[call-overload] # by a name that is not known here


def _answers(batch: Any) -> list[tuple[int, Any]]:
    """Return the answers of a batch of any kind, each with its item's number; those of failed items are of no use."""
    ids = batch.ids.tolist()
    if hasattr(batch, "vectors"):
        return list(zip(ids, batch.vectors, strict=True))
    if hasattr(batch, "outputs"):
        return [(item, outputs.token_vectors) for item, outputs in zip(ids, batch.outputs, strict=True)]
    if hasattr(batch, "tokens"):
        windows: dict[int, list[Any]] = defaultdict(list)
        for window in batch.tokens:
            windows[ids[window.text_index]].append(window)
        return list(windows.items())
    return list(zip(ids, batch.results, strict=True))
