"""Ask a server all that `tei-client` can ask, and print its answers as JSON.

It has a process of its own, since that client leaves an event loop and connections behind. Run as
`python -m tests.support.tei_client ADDRESS sync|async`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable
from typing import Any

import grpc
from tei_client import ClassificationTuple, GrpcClient

TEXTS = ["The quick brown fox", "jumps over the lazy dog", "A model server answers questions"]
PAIR = ("The quick brown fox", "It jumps")
IDS = [[101, 103, 102], [103]]


class ModelOfEveryCall(grpc.AuthMetadataPlugin):
    """Add `x-model` to each call; that client has no other way to send metadata."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        callback((("x-model", self._name),), None)


def connected(address: str, model: str) -> Any:
    """Return a client, of one model where it is named."""
    if not model:
        return GrpcClient(address)
    named = grpc.metadata_call_credentials(ModelOfEveryCall(model))
    return GrpcClient(address, grpc.composite_channel_credentials(grpc.local_channel_credentials(), named))


def shown(answer: Any) -> Any:
    """Return an answer as plain lists and dicts."""
    if hasattr(answer, "model_dump"):
        return answer.model_dump(mode="json")
    return answer if isinstance(answer, str | float) else [shown(each) for each in answer]


async def answers(address: str, prefix: str) -> dict[str, Any]:
    """Return the answers of all methods whose names begin so."""

    async def ask(name: str, *arguments: Any, model: str = "", **options: Any) -> Any:
        answer = getattr(connected(address, model), f"{prefix}{name}")(*arguments, **options)
        return shown(await answer if isinstance(answer, Awaitable) else answer)

    return {
        "embed": await ask("embed", TEXTS),
        "embed_all": await ask("embed_all", TEXTS[0]),
        "tokenize": await ask("tokenize", TEXTS),
        "decode": await ask("decode", IDS, False),
        "classify": await ask("classify", TEXTS, model="nli"),
        "classify_pair": await ask("classify", ClassificationTuple(*PAIR), model="nli"),
        "rerank": await ask("rerank", TEXTS[0], TEXTS, True, model="reranker"),
        "info": await ask("info"),
        "info_of_reranker": await ask("info", model="reranker"),
        "prompt_names": await ask("prompt_names"),
    }


if __name__ == "__main__":
    prefix = "async_" if sys.argv[2] == "async" else ""
    sys.stdout.write(json.dumps(asyncio.run(answers(sys.argv[1], prefix))))
