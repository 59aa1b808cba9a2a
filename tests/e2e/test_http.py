"""Calls over HTTP get the numbers of gRPC, in the form of each API."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from openai import BadRequestError, NotFoundError, OpenAI, omit

from bertstream.client import Client
from tests.support.checkpoints import CORPUS
from tests.support.other_apis import MAX_TEXTS, PROMPTS, ServedApis
from tests.support.sentence import HIDDEN

TEXTS = ["The quick brown fox", "jumps over the lazy dog", "Größere fox 🚀"]
TEXT, PAIR = TEXTS[0], TEXTS[:2]
LONG = " ".join(CORPUS[:4] * 12)


@pytest.fixture(scope="module")
def client(other_apis: ServedApis) -> Iterator[Client]:
    with Client(other_apis.address) as opened:
        yield opened


@pytest.fixture(scope="module")
def openai(other_apis: ServedApis) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{other_apis.url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


def same(given: Any, ours: Any) -> None:
    """Assert that the numbers are the very same ones."""
    np.testing.assert_array_equal(np.array(given, np.float32), np.array(ours, np.float32))


@pytest.mark.parametrize("encoding_format", ["float", omit])  # omitted, the client asks for Base64
@pytest.mark.parametrize("options", [{}, {"dimensions": 7}])
def test_openai_s_client_gets_our_vectors(
    openai: OpenAI, client: Client, encoding_format: Any, options: dict[str, Any]
) -> None:
    answer = openai.embeddings.create(model="prompts", input=TEXTS, encoding_format=encoding_format, **options)
    same([each.embedding for each in answer.data], client.encode(TEXTS, model="prompts", **options))
    assert [each.index for each in answer.data] == [0, 1, 2]
    prompted = client.tokenize([PROMPTS["passage"] + text for text in TEXTS], model="prompts")
    tokens = sum(len(each.token_ids) for each in prompted)
    assert (answer.model, answer.usage.prompt_tokens, answer.usage.total_tokens) == ("prompts", tokens, tokens)


def test_openai_s_inputs(openai: OpenAI, client: Client) -> None:
    ids = [each.token_ids.tolist() for each in client.tokenize(TEXTS, model="words")]
    one = openai.embeddings.create(model="words", input=TEXT, encoding_format="float")
    same(one.data[0].embedding, client.encode(TEXT, model="words"))
    one = openai.embeddings.create(model="words", input=ids[0], encoding_format="float")
    same(one.data[0].embedding, client.encode(TEXT, model="words"))
    several = openai.embeddings.create(model="words", input=ids, encoding_format="float")
    same([each.embedding for each in several.data], client.encode(TEXTS, model="words"))
    long = openai.embeddings.create(model="words", input=LONG, encoding_format="float")  # is cut, as by EncodeTexts
    same(long.data[0].embedding, client.encode(LONG, model="words"))


def test_openai_s_models(openai: OpenAI, other_apis: ServedApis) -> None:
    assert [model.id for model in openai.models.list()] == list(other_apis.models)
    assert openai.models.retrieve("topics").id == "topics"
    with pytest.raises(NotFoundError):
        openai.models.retrieve("no/such")
    assert other_apis.post("/v1/embeddings", {"input": TEXT}).json["model"] == "words"


def test_openai_s_errors(openai: OpenAI) -> None:
    with pytest.raises(NotFoundError) as missing:
        openai.embeddings.create(model="text-embedding-3-small", input=TEXTS)
    assert (missing.value.code, missing.value.type) == ("model_not_found", "invalid_request_error")
    with pytest.raises(BadRequestError) as wrong:
        openai.embeddings.create(model="words", input=[TEXT, 3])  # type: ignore[arg-type]
    assert (wrong.value.code, wrong.value.param) == ("invalid_type", "input[1]")
    assert wrong.value.request_id
    with pytest.raises(BadRequestError) as large:
        openai.embeddings.create(model="words", input=TEXT, dimensions=10_000)
    assert (large.value.code, large.value.param) == ("invalid_range", "dimensions")


BAD_BODIES: list[tuple[Any, int, str, str | None]] = [
    (b"{", 400, "malformed_message", None),
    (b"", 400, "malformed_message", None),
    (b"\xff\xfe", 400, "malformed_message", None),
    (b'{"input": "\xff"}', 400, "malformed_message", None),
    (b'{"input": "\\ud800"}', 400, "malformed_message", None),
    (b'{"a":' + b"[" * 100_000, 400, "malformed_message", None),
    (b"[" * 100_000, 400, "invalid_type", None),
    ({}, 400, "invalid_type", None),
    ({"input": None}, 400, "invalid_type", "input"),
    ({"input": []}, 400, "invalid_empty_list", "input"),
    ({"input": {"a": 1}}, 400, "invalid_type", "input"),
    ({"input": [["a"]]}, 400, "invalid_type", "input[0][0]"),
    ({"input": [[5, -1]]}, 400, "invalid_token_id", "input[0][1]"),
    ({"input": [10**30]}, 400, "invalid_token_id", "input[0]"),
    ({"input": [1 << 20]}, 400, "invalid_token_id", "input"),
    ({"input": "a", "encoding_format": "int8"}, 400, "invalid_type", "encoding_format"),
    ({"input": "a", "model": "x" * 1000}, 404, "model_not_found", None),
    ({"input": ["a"] * (MAX_TEXTS + 1)}, 413, "request_too_large", "input"),
    ({"input": "a" * (1 << 19)}, 413, "request_too_large", None),
]


@pytest.mark.parametrize(("body", "status", "code", "param"), BAD_BODIES)
def test_a_bad_body_is_told_what_is_wrong(
    other_apis: ServedApis, body: Any, status: int, code: str, param: str | None
) -> None:
    answer = other_apis.post("/v1/embeddings", body)
    error = answer.json["error"]
    assert (answer.status, error["code"], error["param"]) == (status, code, param)
    assert error["message"]
    assert "\n" not in error["message"]
    assert len(error["message"]) < 600
    assert answer.headers["x-request-id"] == error["request_id"]


def test_what_is_not_there(other_apis: ServedApis) -> None:
    nothing, wrong = other_apis.get("/v1/nothing"), other_apis.get("/v1/embeddings")
    assert (nothing.status, nothing.json["error"]["code"]) == (404, "method_not_found")
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")


def test_the_document_and_its_page(other_apis: ServedApis) -> None:
    described = other_apis.get("/openapi.json").json
    assert {"/v1/embeddings", "/embed", "/v2/rerank"} <= set(described["paths"])
    page = other_apis.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for name in re.findall(r'(?:src|href)="(/docs/[^"]+)"', page.text):
        assert other_apis.get(name).status == 200


def test_headers_of_a_call(other_apis: ServedApis) -> None:
    answer = other_apis.post("/v1/embeddings", {"input": TEXT}, x_request_id="mine")
    assert answer.headers["x-request-id"] == "mine"
    assert answer.headers["endpoint-load-metrics-bin"]
    wrong = other_apis.post("/v1/embeddings", {"input": TEXT}, x_request_timeout="soon")
    assert (wrong.status, wrong.json["error"]["param"]) == (400, "x-request-timeout")


def test_tei_s_vectors(other_apis: ServedApis, client: Client) -> None:
    given = other_apis.post("/embed", {"inputs": TEXTS}, x_model="prompts").json
    same(given, client.encode(TEXTS, model="prompts", normalize=True))
    (one,) = other_apis.post("/embed", {"inputs": TEXT, "normalize": False, "truncate": None}).json
    same(one, client.encode(TEXT, model="words", normalize=False))
    cut = {"inputs": LONG, "truncate": True, "truncation_direction": "Left", "dimensions": 5, "prompt_name": "query"}
    (one,) = other_apis.post("/embed", cut, x_model="prompts").json
    options: Any = {"normalize": True, "dimensions": 5, "prompt_name": "query", "truncation_side": "left"}
    same(one, client.encode(LONG, model="prompts", **options))
    ids = [each.token_ids.tolist() for each in client.tokenize(TEXTS, model="prompts")]
    plain = client.encode(TEXTS, model="prompts", normalize=True, prompt="")
    same(other_apis.post("/embed", {"inputs": ids}, x_model="prompts").json, plain)


def test_tei_s_states(other_apis: ServedApis, client: Client) -> None:
    given = other_apis.post("/embed_all", {"inputs": TEXTS}).json
    for states, ours in zip(given, client.forward(TEXTS, ["last_hidden_state"], model="words"), strict=True):
        same(states, ours.last_hidden_state)


def test_tei_s_sparse_vectors(other_apis: ServedApis, client: Client) -> None:
    given = other_apis.post("/embed_sparse", {"inputs": TEXTS}).json  # by the first that has them by its files
    for weights, ours in zip(given, client.encode_sparse(TEXTS, model="splade"), strict=True):
        assert [each["index"] for each in weights] == ours.token_ids.tolist()
        same([each["value"] for each in weights], ours.weights)
    ids = [each.token_ids.tolist() for each in client.tokenize(TEXTS, model="mlm")]
    by_ids = other_apis.post("/embed_sparse", {"inputs": ids}, x_model="mlm").json
    for weights, ours in zip(by_ids, client.encode_sparse(TEXTS, model="mlm"), strict=True):
        same([each["value"] for each in weights], ours.weights)
    refused = other_apis.post("/embed_sparse", {"inputs": "a"}, x_model="words")
    assert (refused.status, refused.json["error_type"]) == (424, "backend")


@pytest.mark.parametrize("path", ["/embed", "/embed_all"])
def test_a_prompt_before_token_ids_is_named_as_in_the_body(other_apis: ServedApis, path: str) -> None:
    refused = other_apis.post(path, {"inputs": [5], "prompt_name": "query"}, x_model="prompts")
    assert (refused.status, refused.json["error"].split(":")[0]) == (422, "prompt_name")


def test_tei_s_similarity(other_apis: ServedApis, client: Client) -> None:
    body = {"inputs": {"source_sentence": TEXT, "sentences": TEXTS[1:]}, "parameters": {"prompt_name": "query"}}
    given = other_apis.post("/similarity", body, x_model="prompts").json
    ours = client.encode(TEXTS, model="prompts", normalize=True, prompt_name="query")
    np.testing.assert_allclose(given, ours[1:] @ ours[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("model", ["topics", "many", "numbers", "reranker"])
def test_tei_s_labels(other_apis: ServedApis, client: Client, model: str) -> None:
    bodies: list[tuple[Any, list[Any]]] = [
        (TEXT, [TEXT]),
        ([TEXT], [TEXT]),
        (PAIR, [tuple(PAIR)]),
        ([[TEXT], PAIR, [TEXTS[2]]], [TEXT, tuple(PAIR), TEXTS[2]]),
    ]
    for inputs, items in bodies:
        given = other_apis.post("/predict", {"inputs": inputs, "raw_scores": True}, x_model=model).json
        lists = given if isinstance(given[0], list) else [given]
        assert len(lists) == len(items)
        for labels, item in zip(lists, items, strict=True):
            ours = client.classify(item, model=model, function="none")
            assert [each["label"] for each in labels] == [each.label for each in ours]
            found, expected = ([each["score"] for each in labels], [each.score for each in ours])
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)  # in another batch, so not the same bits


def test_tei_s_ranks(other_apis: ServedApis, client: Client) -> None:
    given = other_apis.post("/rerank", {"query": "fox", "texts": TEXTS, "return_text": True}).json
    ours = client.rerank("fox", TEXTS, model="reranker", function="sigmoid", truncation="longest_first")
    assert [(each["index"], each["text"]) for each in given] == [(each.index, TEXTS[each.index]) for each in ours]
    same([each["score"] for each in given], [each.score for each in ours])


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
def test_documents_are_ranked_as_cohere_and_jina_do(other_apis: ServedApis, client: Client, path: str) -> None:
    documents = [TEXTS[0], {"text": TEXTS[1], "more": 1}, TEXTS[2]]
    body = {"model": "reranker", "query": "fox", "documents": documents, "top_n": 2, "return_documents": True}
    answer = other_apis.post(path, body).json
    ours = client.rerank("fox", TEXTS, model="reranker", function="sigmoid", top_k=2)
    assert [each["index"] for each in answer["results"]] == [each.index for each in ours]
    same([each["relevance_score"] for each in answer["results"]], [each.score for each in ours])
    assert [each["document"]["text"] for each in answer["results"]] == [TEXTS[each.index] for each in ours]
    assert answer["usage"]["total_tokens"] > 0
    assert answer["meta"] == {"api_version": {"version": "2" if path == "/v2/rerank" else "1"}}
    for top in (0, "x"):
        refused = other_apis.post(path, {"query": "fox", "documents": TEXTS, "model": None, "top_n": top})
        assert (refused.status, refused.json["message"]) == (400, refused.json["detail"])


def test_rerank_errors(other_apis: ServedApis) -> None:
    missing = other_apis.post("/v2/rerank", {"model": "rerank-v3.5", "query": "fox", "documents": TEXTS})
    assert (missing.status, missing.json["message"]) == (404, missing.json["detail"])
    nulls = {"model": None, "top_n": None, "return_documents": None}
    assert other_apis.post("/v2/rerank", {"query": "fox", "documents": TEXTS, **nulls}).status == 200
    none = other_apis.post("/v2/rerank", {"query": "fox", "documents": TEXTS, "top_n": 0})
    assert none.status == 400
    long = other_apis.post("/v2/rerank", {"query": LONG, "documents": TEXTS})
    assert (long.status, long.json["message"].split(" tokens")[0].split(" has ")[0]) == (400, "query: the query")
    unfit = other_apis.post("/v1/rerank", {"model": "topics", "query": "fox", "documents": TEXTS})
    assert unfit.status == 400
    neither = other_apis.post("/rerank", {"query": "fox"})
    assert (neither.status, neither.json["error_type"]) == (422, "validation")
    both = other_apis.post("/rerank", {"query": "fox", "texts": TEXTS, "documents": TEXTS})
    assert (both.status, both.json["error"].split(":")[0]) == (422, "documents")


def test_tei_s_tokens(other_apis: ServedApis, client: Client) -> None:
    given = other_apis.post("/tokenize", {"inputs": TEXTS}).json
    ours = client.tokenize(TEXTS, model="words")
    assert [[token["id"] for token in text] for text in given] == [each.token_ids.tolist() for each in ours]
    assert (given[0][0]["special"], given[0][0]["start"], given[0][1]["start"]) == (True, None, 0)
    for text, tokens in zip(TEXTS, given, strict=True):
        assert all(text[each["start"] : each["stop"]] == each["text"] for each in tokens if not each["special"])
    ids = [each.token_ids.tolist() for each in ours]
    texts = client.detokenize(ids, model="words", skip_special_tokens=True)
    assert other_apis.post("/decode", {"ids": ids}).json == list(texts)
    assert other_apis.post("/decode", {"ids": ids[0]}).json == list(texts)[:1]


def test_tei_s_info_and_health(other_apis: ServedApis) -> None:
    info = other_apis.get("/info", x_model="prompts").json
    assert (info["model_id"], info["model_type"], info["max_client_batch_size"]) == (
        "prompts",
        {"embedding": {"pooling": "mean"}},
        MAX_TEXTS,
    )
    assert other_apis.get("/info", x_model="reranker").json["model_type"]["reranker"]["id2label"]
    health = other_apis.get("/health")
    assert (health.status, health.json) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("path", "body", "status", "kind"),
    [
        ("/embed", {"inputs": LONG}, 413, "validation"),
        ("/embed", {"inputs": ["a"] * (MAX_TEXTS + 1)}, 413, "validation"),
        ("/embed", {"inputs": []}, 400, "empty"),
        ("/embed", {"inputs": [1 << 20]}, 422, "tokenizer"),
        ("/embed", {"inputs": "a", "truncation_direction": "Up"}, 422, "validation"),
        ("/embed", {"inputs": "a", "dimensions": HIDDEN * 1000}, 422, "validation"),
        ("/embed", {"inputs": "a", "prompt_name": "x"}, 422, "validation"),
        ("/embed", b"{", 422, "validation"),
        ("/embed_sparse", {"inputs": LONG}, 413, "validation"),
        ("/predict", {"inputs": ["a", "b", "c"]}, 422, "validation"),
        ("/predict", {"inputs": ["a", ["b"]]}, 422, "validation"),
        ("/rerank", {"query": "a", "texts": []}, 400, "empty"),
        ("/rerank", {"query": LONG, "texts": ["a"]}, 413, "validation"),
        ("/decode", {"ids": [1 << 20]}, 422, "tokenizer"),
        ("/similarity", {"inputs": {"source_sentence": "a", "sentences": []}}, 400, "empty"),
        ("/similarity", {"inputs": {"source_sentence": "a", "sentences": ["b", LONG]}}, 413, "validation"),
    ],
)
def test_tei_s_errors(other_apis: ServedApis, path: str, body: Any, status: int, kind: str) -> None:
    answer = other_apis.post(path, body)
    assert (answer.status, answer.json["error_type"]) == (status, kind)
    assert answer.json["error"]
    assert "options" not in answer.json["error"]  # which bodies do not have
