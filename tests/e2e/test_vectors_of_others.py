"""Vectors of tokens and sparse vectors by others' APIs: the numbers of our own protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from bertstream.client import Client
from tests.support.inference import InferenceCalls, outputs_of, request_of
from tests.support.multi_vector import WIDTH
from tests.support.other_apis import ServedApis

NEAR = 1e-6  # queries whose masks are not attended to are computed by ATen
TEXTS = ["The quick brown fox, and a dog.", "fox", "word " * 60]


@pytest.fixture(scope="module")
def client(other_apis: ServedApis) -> Iterator[Client]:
    with Client(other_apis.address) as opened:
        yield opened


@pytest.fixture(scope="module")
def outputs(other_apis: ServedApis) -> Iterator[Callable[..., dict[str, Any]]]:
    with grpc.insecure_channel(other_apis.address) as channel:
        calls = InferenceCalls(channel)
        yield lambda *arguments, **options: outputs_of(calls.infer(request_of(*arguments, **options)))


@pytest.mark.parametrize("kind", ["query", "document", None])
def test_jina_s_multi_vectors(other_apis: ServedApis, client: Client, kind: Any) -> None:
    body = {"model": "colbert", "input": TEXTS, "embedding_type": "float", "dimensions": WIDTH, "user": "me"}
    answer = other_apis.post("/v1/multi-vector", body if kind is None else {**body, "input_type": kind})
    assert (answer.status, answer.json["object"], answer.json["model"]) == (200, "list", "colbert")
    want = client.encode_multi(TEXTS, model="colbert", kind=kind or "document")
    assert [each["index"] for each in answer.json["data"]] == [0, 1, 2]
    for found, own in zip(answer.json["data"], want, strict=True):
        np.testing.assert_allclose(np.array(found["embeddings"], np.float32), own, atol=NEAR)
    assert answer.json["usage"]["total_tokens"] >= sum(map(len, want))


def test_jina_s_defaults(other_apis: ServedApis, client: Client) -> None:
    answer = other_apis.post("/v1/multi-vector", {"input": "fox"})
    assert answer.json["model"] == "colbert"
    own = client.encode_multi("fox", model="colbert", kind="document")[0]
    np.testing.assert_allclose(np.array(answer.json["data"][0]["embeddings"], np.float32), own, atol=NEAR)


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"input": TEXTS, "model": "colbert", "dimensions": 7}, 400, f"this model's vectors have {WIDTH}, and cannot"),
        ({"input": TEXTS, "model": "words"}, 400, "this checkpoint has no token_vectors"),
        ({"input": TEXTS, "input_type": "page"}, 400, "input_type"),
        ({"input": [], "model": "colbert"}, 400, "input"),
        ({"input": TEXTS, "model": "jina-colbert-v2"}, 404, "jina-colbert-v2"),
    ],
)
def test_jina_s_errors(other_apis: ServedApis, body: Any, status: int, told: str) -> None:
    answer = other_apis.post("/v1/multi-vector", body)
    assert (answer.status, told in answer.json["detail"]) == (status, True), answer.json


def test_documents_are_scored_by_late_interaction(other_apis: ServedApis, client: Client) -> None:
    query, documents = "the lazy dog", [*TEXTS, ""]
    want = [(each.index, pytest.approx(each.score)) for each in client.rerank(query, documents, model="colbert")]
    body = {"model": "colbert", "query": query, "documents": documents}
    results = other_apis.post("/v1/rerank", body).json["results"]
    assert [(each["index"], each["relevance_score"]) for each in results] == want
    for raw in (False, True):
        asked = {"query": query, "texts": documents, "raw_scores": raw, "truncate": True}
        ranks = other_apis.post("/rerank", asked, x_model="colbert").json
        assert [(each["index"], each["score"]) for each in ranks] == want
    refused = other_apis.post("/rerank", {"query": query, "texts": documents}, x_model="colbert")
    assert (refused.status, "texts[2]" in refused.json["error"]) == (413, True)


@pytest.mark.parametrize("kind", ["query", "passage", None])
def test_vectors_of_tokens_as_tensors(outputs: Callable[..., dict[str, Any]], client: Client, kind: Any) -> None:
    parameters = {"input_type": kind} if kind else {}
    found = outputs("colbert", ["token_vectors", "vector_count", "token_count"], text=TEXTS, parameters=parameters)
    own: Any = {"query": "query", "passage": "document"}.get(kind)
    want = client.encode_multi(TEXTS, model="colbert", kind=own)
    assert found["vector_count"].tolist() == [[len(each)] for each in want]
    vectors = found["token_vectors"]
    assert vectors.shape[::2] == (3, WIDTH)
    for row, each in zip(vectors, want, strict=True):
        np.testing.assert_allclose(row[: len(each)], each, atol=NEAR)
        assert not row[len(each) :].any()
    half = outputs("colbert", ["token_vectors"], text=TEXTS, parameters={**parameters, "data_type": "float16"})
    np.testing.assert_allclose(half["token_vectors"].astype(np.float32), vectors, atol=2e-3)
    assert outputs("colbert", ["vector_count"], text=TEXTS, parameters=parameters).keys() == {"vector_count"}


def test_vectors_of_tokens_of_ids_and_what_is_refused(outputs: Callable[..., dict[str, Any]], client: Client) -> None:
    ids = client.tokenize("fox", model="colbert")[0].token_ids.astype(np.int64)[None]
    found = outputs("colbert", ["token_vectors"], input_ids=ids)
    want = client.encode_multi([ids[0].tolist()], model="colbert")[0]
    np.testing.assert_allclose(found["token_vectors"][0], want, atol=NEAR)
    asked = {"text": TEXTS, "parameters": {"input_type": "query"}}
    with pytest.raises(grpc.RpcError, match="expands queries"):
        outputs("colbert", ["token_vectors", "last_hidden_state"], **asked)
    with pytest.raises(grpc.RpcError, match="no such output"):
        outputs("words", ["token_vectors"], text=TEXTS)


@pytest.mark.parametrize(("model", "top_k"), [("splade", None), ("splade", 3), ("mlm", 2)])
def test_sparse_vectors_as_tensors(
    outputs: Callable[..., dict[str, Any]], client: Client, model: str, top_k: int | None
) -> None:
    parameters = {} if top_k is None else {"top_k": top_k}
    found = outputs(model, ["sparse_ids", "sparse_weights", "sparse_count"], text=TEXTS, parameters=parameters)
    want = client.encode_sparse(TEXTS, model=model, top_k=top_k)
    assert found["sparse_count"].tolist() == [[len(each.token_ids)] for each in want]
    for ids, weights, each in zip(found["sparse_ids"], found["sparse_weights"], want, strict=True):
        np.testing.assert_array_equal(ids[: len(each.token_ids)], each.token_ids)
        np.testing.assert_allclose(weights[: len(each.token_ids)], each.weights, atol=NEAR)
        assert not weights[len(each.token_ids) :].any()


def test_sparse_vectors_that_are_too_many(outputs: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(grpc.RpcError, match="no such output"):
        outputs("topics", ["sparse_ids"], text=TEXTS)
    with pytest.raises(grpc.RpcError, match="parameters"):
        outputs("mlm", ["sparse_ids"], text=TEXTS, parameters={"top_k": 0})
