"""Calls over HTTP get the numbers of gRPC, in the form of each API."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openai import NotFoundError, OpenAI, omit

from bertstream.client import Client
from tests.support.hosted import free_port, hosted
from tests.support.web import Answer, ask

TEXTS = ["The quick brown fox", "jumps over the lazy dog", "quick quick fox"]


@dataclass(frozen=True, slots=True)
class Both:
    """One server, by gRPC and by HTTP."""

    client: Client
    url: str

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        raise NotImplementedError


@pytest.fixture(scope="module")
def both(checkpoint: Callable[[str], Path], compile_cache: Path) -> Iterator[Both]:
    models = {"bert": checkpoint("bert"), "reranker": checkpoint("bert-cross-encoder")}
    port = free_port()
    with (
        tempfile.TemporaryDirectory() as folder,
        hosted(models, compile_cache, Path(folder), port) as address,
        Client(address) as client,
    ):
        yield Both(client, f"http://127.0.0.1:{port}")


def test_health(both: Both) -> None:
    answer = ask(f"{both.url}/health")
    assert (answer.status, answer.json) == (200, {"status": "ok"})


@pytest.mark.parametrize("encoding_format", ["float", omit])  # omitted, the client asks for base64
def test_openai_s_client_gets_our_vectors(both: Both, encoding_format: Any) -> None:
    with OpenAI(base_url=f"{both.url}/v1", api_key="none", max_retries=0) as client:
        answer = client.embeddings.create(model="bert", input=TEXTS, encoding_format=encoding_format)
        given = np.array([each.embedding for each in answer.data], np.float32)
        np.testing.assert_array_equal(given, both.client.encode(TEXTS, model="bert"))
        assert [model.id for model in client.models.list()] == ["bert", "reranker"]
        assert client.models.retrieve("bert").id == "bert"
        with pytest.raises(NotFoundError) as raised:
            client.embeddings.create(model="text-embedding-3-small", input=TEXTS)
    assert raised.value.code == "model_not_found"
