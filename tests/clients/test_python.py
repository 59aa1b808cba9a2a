"""Others' clients in Python get what our own client gets, by whichever interface they speak."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bertstream.client import Client
from tests.clients.environments import answers, needs
from tests.support.markdown import Documented

TEXTS = ["A cat sleeps on the warm roof.", "It will rain all night.", "naïve 水"]
QUERY = "Where does the cat sleep?"
DOCUMENTS = ["It will rain.", "On the roof.", "The stock exchange opens at nine."]


@pytest.fixture(scope="module")
def url(documented_server: Documented) -> str:
    return f"http://{documented_server.http}"


def same(given: Any, client: Client, texts: list[str] = TEXTS) -> None:
    np.testing.assert_allclose(np.array(given, np.float32), client.encode(texts), atol=1e-6)


def ranked(given: Any, client: Client, count: int = len(DOCUMENTS)) -> None:
    ours = client.rerank(QUERY, DOCUMENTS, model="reranker", function="sigmoid")[:count]
    assert [index for index, _ in given] == [each.index for each in ours]
    np.testing.assert_allclose([score for _, score in given], [each.score for each in ours], atol=1e-6)


@needs("cohere")
def test_cohere(url: str, client: Client) -> None:
    theirs = answers("cohere", url)
    ranked(theirs["v1"], client)
    ranked(theirs["v2"], client)
    ranked(theirs["best"], client, 1)


@needs("langchain")
def test_langchain(url: str, client: Client) -> None:
    theirs = answers("langchain", url, *TEXTS)
    same(theirs["documents"], client)
    same([theirs["query"]], client, TEXTS[:1])
    same(theirs["async"], client)


@needs("haystack")
def test_haystack(url: str, client: Client) -> None:
    theirs = answers("haystack", url, *TEXTS)
    same(theirs["documents"], client)
    same([theirs["query"]], client, TEXTS[:1])


@needs("llama-index")
def test_llama_index(url: str, client: Client) -> None:
    theirs = answers("llama-index", url, *TEXTS)
    same(theirs["documents"], client)
    same([theirs["query"]], client, TEXTS[:1])
    ranked(theirs["ranks"], client)


@needs("chromadb")
def test_chromadb(url: str, client: Client) -> None:
    theirs = answers("chromadb", url, *TEXTS)
    same(theirs["openai"], client)
    same(theirs["tei"], client)
    assert theirs["found"] == [[TEXTS[1]]]


@needs("litellm")
def test_litellm(url: str, client: Client) -> None:
    theirs = answers("litellm", url, *TEXTS)
    same(theirs["vectors"], client)
    ranked(theirs["cohere"], client)
    ranked(theirs["jina"], client)


@needs("infinity")
def test_infinity(url: str, client: Client) -> None:
    theirs = answers("infinity", url, *TEXTS)
    same(theirs["vectors"], client)
    ranked(theirs["ranks"], client)


@needs("kserve")
def test_kserve(documented: str, client: Client) -> None:
    theirs = answers("kserve", documented, *TEXTS)
    assert theirs["ready"] is True
    same(theirs["raw"], client)
    same(theirs["typed"], client)
