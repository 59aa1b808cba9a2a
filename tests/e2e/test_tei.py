"""Calls by `tei.v1` get the numbers of our own protocol, in that protocol's messages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2
from sentence_transformers import SparseEncoder

from bertstream.client import Client
from bertstream.server.protocols.tei_v1 import tei_pb2 as t
from tests.support.checkpoints import CORPUS, TEXTS
from tests.support.other_apis import PROMPTS, ServedApis
from tests.support.sentence import HIDDEN
from tests.support.tei import TeiCalls

LONG = " ".join(CORPUS[:4] * 12)
TEXT, PAIR = "The quick brown fox", ("The quick brown fox", "jumps over the lazy dog")
LEFT, RIGHT = t.TRUNCATION_DIRECTION_LEFT, t.TRUNCATION_DIRECTION_RIGHT
Tei = Callable[..., TeiCalls]


@pytest.fixture(scope="module")
def address(other_apis: ServedApis) -> str:
    return other_apis.address


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[Client]:
    with Client(address) as opened:
        yield opened


@pytest.fixture(scope="module")
def tei(address: str) -> Iterator[Tei]:
    with grpc.insecure_channel(address) as channel:
        yield lambda model="": TeiCalls(channel, model)


def refused(call: Callable[..., Any], *arguments: Any) -> tuple[str, str, str]:
    """Return the status, the reason and the message of a call that must fail."""
    with pytest.raises(grpc.RpcError) as raised:
        call(*arguments)
    error: Any = raised.value
    trailers: dict[str, Any] = dict(error.trailing_metadata())
    info = error_details_pb2.ErrorInfo()
    status_pb2.Status.FromString(trailers["grpc-status-details-bin"]).details[0].Unpack(info)
    return error.code().name, info.reason, error.details()


def same(given: Any, ours: Any) -> None:
    """Assert that the numbers are the very same ones."""
    np.testing.assert_array_equal(np.array(given, np.float32), np.array(ours, np.float32))


def tokens_of(client: Client, text: str) -> int:
    return len(client.tokenize(text, model="prompts")[0].token_ids)


@pytest.mark.parametrize("text", [text for text in TEXTS if text])
def test_a_vector(tei: Tei, client: Client, text: str) -> None:
    answer = tei("prompts").one("Embed/Embed", t.EmbedRequest(inputs=text, truncate=True))
    same(answer.embeddings, client.encode(text, model="prompts", normalize=True))
    plain = tei("prompts").one("Embed/Embed", t.EmbedRequest(inputs=text, truncate=True, normalize=False))
    same(plain.embeddings, client.encode(text, model="prompts", normalize=False))
    assert not np.array_equal(plain.embeddings, answer.embeddings)


def test_what_a_vector_took(tei: Tei, client: Client) -> None:
    text = "Größere fox 🚀"
    took = tei("prompts").one("Embed/Embed", t.EmbedRequest(inputs=text)).metadata
    assert (took.compute_chars, took.compute_tokens) == (13, tokens_of(client, PROMPTS["passage"] + text))
    parts = (took.tokenization_time_ns, took.queue_time_ns, took.inference_time_ns)
    assert min(parts) > 0
    assert took.total_time_ns >= sum(parts)


@pytest.mark.parametrize("dimensions", [1, 7, HIDDEN])
def test_a_vector_is_cut_and_then_scaled(tei: Tei, client: Client, dimensions: int) -> None:
    answer = tei("prompts").one("Embed/Embed", t.EmbedRequest(inputs=TEXT, dimensions=dimensions))
    same(answer.embeddings, client.encode(TEXT, model="prompts", dimensions=dimensions, normalize=True))
    assert len(answer.embeddings) == dimensions
    assert abs(float(np.linalg.norm(answer.embeddings)) - 1) < 1e-6


@pytest.mark.parametrize("dimensions", [0, HIDDEN + 1, (1 << 32) - 1])
def test_dimensions_that_there_are_not(tei: Tei, dimensions: int) -> None:
    request = t.EmbedRequest(inputs=TEXT, dimensions=dimensions)
    assert refused(lambda: tei("prompts").one("Embed/Embed", request)) == (
        "INVALID_ARGUMENT",
        "INVALID_RANGE",
        f"dimensions: {dimensions} is not between 1 and {HIDDEN}",
    )


def test_prompts(tei: Tei, client: Client) -> None:
    for name, prompt in PROMPTS.items():
        answer = tei("prompts").one("Embed/Embed", t.EmbedRequest(inputs=TEXT, prompt_name=name))
        same(answer.embeddings, client.encode(TEXT, model="prompts", prompt=prompt, normalize=True))
    unnamed = tei("prompts").one("Embed/Embed", t.EmbedRequest(inputs=TEXT))
    same(unnamed.embeddings, client.encode(TEXT, model="prompts", prompt_name="passage", normalize=True))
    status, reason, message = refused(
        lambda: tei("prompts").one("Embed/Embed", t.EmbedRequest(inputs=TEXT, prompt_name="x"))
    )
    assert (status, reason) == ("INVALID_ARGUMENT", "INVALID_PROMPT_NAME")
    names = ", ".join(f'"{name}"' for name in sorted(client.model("prompts").prompts))
    assert message == f"prompt_name: no prompt has this name. Available prompts: [{names}]"


def test_a_long_text_is_refused_or_cut_at_either_end(tei: Tei, client: Client) -> None:
    most = client.model("topics").default_max_length
    status, reason, message = refused(lambda: tei("topics").one("Embed/Embed", t.EmbedRequest(inputs=LONG)))
    assert (status, reason) == ("INVALID_ARGUMENT", "INVALID_TEXT_LENGTH")
    assert re.fullmatch(rf"inputs: has \d+ tokens, more than {most}, and truncation is off", message)
    ends: list[tuple[t.TruncationDirection.ValueType, Any]] = [(RIGHT, "right"), (LEFT, "left")]
    for direction, side in ends:
        request = t.EmbedRequest(inputs=LONG, truncate=True, truncation_direction=direction)
        answer = tei("topics").one("Embed/Embed", request)
        same(
            answer.embeddings,
            client.encode(LONG, model="topics", normalize=True, truncation_side=side),
        )
        assert answer.metadata.compute_tokens == most


def test_the_vectors_of_all_tokens(tei: Tei, client: Client) -> None:
    answer = tei("words").one("Embed/EmbedAll", t.EmbedAllRequest(inputs=TEXT))
    (ours,) = client.forward(TEXT, ["last_hidden_state"], model="words")
    same([each.embeddings for each in answer.token_embeddings], ours.last_hidden_state)
    assert answer.metadata.compute_tokens == len(answer.token_embeddings)
    prompted = tei("prompts").one("Embed/EmbedAll", t.EmbedAllRequest(inputs=TEXT, prompt_name="query"))
    assert len(prompted.token_embeddings) == tokens_of(client, PROMPTS["query"] + TEXT)


def dense(answer: t.EmbedSparseResponse, size: int) -> Any:
    """Return the vector with its zeros; the indexes must rise."""
    indexes = [each.index for each in answer.sparse_embeddings]
    assert indexes == sorted(set(indexes))
    assert all(each.value > 0 for each in answer.sparse_embeddings)
    vector = np.zeros(size, np.float32)
    vector[indexes] = [each.value for each in answer.sparse_embeddings]
    return vector


def test_sparse_vectors(tei: Tei, other_apis: ServedApis) -> None:
    """They come from the SparseEncoder, which is there beside a plain masked language model, with its own prompt."""
    theirs = SparseEncoder(str(other_apis.sparse), device="cpu")
    texts = [text for text in TEXTS if text.strip()]
    want = theirs.encode(texts, convert_to_sparse_tensor=False).numpy()
    requests = [t.EmbedSparseRequest(inputs=text, truncate=True) for text in texts]
    answers = list(tei().many("Embed/EmbedSparseStream", requests))
    for answer, vector in zip(answers, want, strict=True):
        np.testing.assert_allclose(dense(answer, vector.size), vector, atol=1e-5, rtol=1e-5)
        assert len(answer.sparse_embeddings) <= 50
    alone = tei().one("Embed/EmbedSparse", requests[0])
    np.testing.assert_allclose(dense(alone, want.shape[1]), want[0], atol=1e-5, rtol=1e-5)
    assert (alone.metadata.compute_chars, alone.metadata.compute_tokens) == (
        len(texts[0]),
        answers[0].metadata.compute_tokens,
    )


def test_sparse_vectors_of_any_masked_language_model(tei: Tei, checkpoint: Callable[[str], Path]) -> None:
    theirs = SparseEncoder(str(checkpoint("roberta-mlm")), device="cpu")
    want = theirs.encode([TEXT], convert_to_sparse_tensor=False).numpy()[0]
    answer = tei("mlm").one("Embed/EmbedSparse", t.EmbedSparseRequest(inputs=TEXT))
    np.testing.assert_allclose(dense(answer, want.size), want, atol=1e-5, rtol=1e-5)
    assert tei("mlm").one("Info/Info", t.InfoRequest()).model_type == t.MODEL_TYPE_EMBEDDING


def test_sparse_vectors_that_there_are_not(tei: Tei) -> None:
    request = t.EmbedSparseRequest(inputs=TEXT)
    for call in (
        lambda: tei("words").one("Embed/EmbedSparse", request),
        lambda: list(tei("words").many("Embed/EmbedSparseStream", [request])),
    ):
        assert refused(call)[:2] == ("FAILED_PRECONDITION", "HEAD_NOT_AVAILABLE")
    long = t.EmbedSparseRequest(inputs=LONG)
    assert refused(tei().one, "Embed/EmbedSparse", long)[:2] == ("INVALID_ARGUMENT", "INVALID_TEXT_LENGTH")
    unknown = t.EmbedSparseRequest(inputs=TEXT, prompt_name="x")
    assert refused(tei().one, "Embed/EmbedSparse", unknown)[:2] == ("INVALID_ARGUMENT", "INVALID_PROMPT_NAME")


@pytest.mark.parametrize(
    ("model", "own", "raw"),
    [("topics", "softmax", False), ("many", "sigmoid", False), ("numbers", "none", False), ("topics", "none", True)],
)
def test_labels(tei: Tei, client: Client, model: str, own: Any, raw: bool) -> None:
    answer = tei(model).one("Predict/Predict", t.PredictRequest(inputs=TEXT, raw_scores=raw))
    ours = client.classify(TEXT, model=model, function=own)
    assert [each.label for each in answer.predictions] == [each.label for each in ours]
    same([each.score for each in answer.predictions], [each.score for each in ours])
    assert answer.metadata.compute_chars == len(TEXT)


def test_one_label_has_its_sigmoid(tei: Tei, client: Client) -> None:
    functions: list[tuple[bool, Any]] = [(False, "sigmoid"), (True, "none")]
    for raw, function in functions:
        answer = tei("reranker").one("Predict/PredictPair", t.PredictPairRequest(inputs=PAIR, raw_scores=raw))
        (ours,) = client.classify(PAIR, model="reranker", function=function)
        assert [(each.label, each.score) for each in answer.predictions] == [(ours.label, np.float32(ours.score))]


def test_pairs(tei: Tei, client: Client) -> None:
    answer = tei("topics").one("Predict/PredictPair", t.PredictPairRequest(inputs=PAIR))
    same([each.score for each in answer.predictions], [each.score for each in client.classify(PAIR, model="topics")])
    assert answer.metadata.compute_chars == sum(map(len, PAIR))
    alone = tei("topics").one("Predict/PredictPair", t.PredictPairRequest(inputs=[TEXT]))
    same([each.score for each in alone.predictions], [each.score for each in client.classify(TEXT, model="topics")])
    for texts in ([], [TEXT] * 3):
        request = t.PredictPairRequest(inputs=texts)
        assert refused(tei("topics").one, "Predict/PredictPair", request) == (
            "INVALID_ARGUMENT",
            "INVALID_LENGTHS",
            f"inputs: it must have one text or two, not {len(texts)}",
        )


def test_a_model_without_labels_of_texts_says_what_it_has(tei: Tei) -> None:
    request = t.PredictRequest(inputs=TEXT)
    status, reason, message = refused(lambda: tei("words").one("Predict/Predict", request))
    assert (status, reason) == ("FAILED_PRECONDITION", "HEAD_NOT_AVAILABLE")
    assert message.endswith("heads that it has: token_classification")


DOCUMENTS = [*CORPUS[:3], "fox", CORPUS[0]]


def ranking(client: Client, function: Any) -> list[tuple[int, np.float32]]:
    ranked = client.rerank(TEXT, DOCUMENTS, model="reranker", function=function, truncation="longest_first")
    return [(each.index, np.float32(each.score)) for each in ranked]


@pytest.mark.parametrize(("raw", "function"), [(False, "sigmoid"), (True, "none")])
def test_ranks(tei: Tei, client: Client, raw: bool, function: str) -> None:
    request = t.RerankRequest(query=TEXT, texts=DOCUMENTS, raw_scores=raw, return_text=True)
    answer = tei().one("Rerank/Rerank", request)
    assert [(rank.index, np.float32(rank.score)) for rank in answer.ranks] == ranking(client, function)
    assert [rank.text for rank in answer.ranks] == [DOCUMENTS[rank.index] for rank in answer.ranks]
    assert answer.metadata.compute_chars == len(TEXT) * len(DOCUMENTS) + sum(map(len, DOCUMENTS))
    request.return_text = False
    assert not any(rank.HasField("text") for rank in tei().one("Rerank/Rerank", request).ranks)


def test_ranks_of_a_stream_of_texts(tei: Tei, client: Client) -> None:
    requests = [t.RerankStreamRequest(query=TEXT, text=text, raw_scores=not i) for i, text in enumerate(DOCUMENTS)]
    answer = tei().together("Rerank/RerankStream", requests)
    assert [(rank.index, np.float32(rank.score)) for rank in answer.ranks] == ranking(client, "none")


def test_what_cannot_be_ranked(tei: Tei) -> None:
    def stream(*requests: t.RerankStreamRequest) -> tuple[str, str, str]:
        return refused(lambda: tei().together("Rerank/RerankStream", requests))

    def one(model: str = "", **fields: Any) -> tuple[str, str, str]:
        return refused(lambda: tei(model).one("Rerank/Rerank", t.RerankRequest(query=TEXT, **fields)))

    text = t.RerankStreamRequest(query=TEXT, text=TEXT)
    assert one() == ("INVALID_ARGUMENT", "INVALID_EMPTY_LIST", "texts: the list is empty")
    assert one(texts=["a"] * 65)[1:] == ("REQUEST_TOO_LARGE", "texts: 65 texts or more; the limit of one call is 64")
    assert one(texts=["fox", LONG])[1:2] == ("INVALID_TEXT_LENGTH",)
    assert one(texts=["fox", LONG])[2].startswith("texts[1]: the document has ")
    for texts in (["fox"], ["fox", "dog"]):
        told = refused(tei().one, "Rerank/Rerank", t.RerankRequest(query=LONG, texts=texts))
        assert told[1:2] == ("INVALID_TEXT_LENGTH",)
        assert told[2].startswith("query: the query has ")
    assert stream(text, t.RerankStreamRequest(query=LONG, text=TEXT))[2].startswith("query[1]: the query has ")
    assert one("topics", texts=["a"])[:2] == ("FAILED_PRECONDITION", "HEAD_NOT_SUITABLE")
    assert one("words", texts=["a"])[:2] == ("FAILED_PRECONDITION", "HEAD_NOT_AVAILABLE")
    assert stream() == ("INVALID_ARGUMENT", "INVALID_EMPTY_LIST", "text: the stream had no request")
    assert stream(*[text] * 65)[1] == "REQUEST_TOO_LARGE"
    assert stream(*[t.RerankStreamRequest(text="x" * 100_000)] * 3)[1] == "REQUEST_TOO_LARGE"
    assert stream(text, t.RerankStreamRequest(query=TEXT, text=TEXT, truncate=True))[1] == "INVALID_COMBINATION"


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("text", [TEXT, "Größere 🚀 fox", "", LONG])
def test_tokens(tei: Tei, client: Client, text: str, special: bool) -> None:
    request = t.EncodeRequest(inputs=text, add_special_tokens=special, prompt_name="query")
    tokens = tei("prompts").one("Tokenize/Tokenize", request).tokens
    prompted = PROMPTS["query"] + text
    (ours,) = client.tokenize(prompted[:403], model="prompts", add_special_tokens=special)
    shown = list(tokens)[: len(ours.token_ids) - 2]  # of a long text, ours have its beginning alone
    assert [each.id for each in shown] == ours.token_ids.tolist()[: len(shown)]
    assert [each.special for each in shown] == ours.special_tokens_mask.tolist()[: len(shown)]
    places = [(each.start, each.stop) for each in shown if not each.special]
    assert places == [tuple(each) for each in ours.offsets.tolist()[special : len(shown)]]
    for each in tokens:
        assert each.HasField("start") is each.HasField("stop") is not each.special
        assert each.text == (
            prompted[each.start : each.stop] if not each.special else ("[CLS]" if each is tokens[0] else "[SEP]")
        )
    assert len(tokens) > client.model("prompts").default_max_length or text is not LONG


def test_texts_of_tokens(tei: Tei, client: Client) -> None:
    (tokens,) = client.tokenize(TEXT, model="words")
    ids = tokens.token_ids.tolist()
    for skip in (False, True):
        answer = tei().one("Tokenize/Decode", t.DecodeRequest(ids=ids, skip_special_tokens=skip))
        assert [answer.text] == client.detokenize([tokens], model="words", skip_special_tokens=skip)
    assert tei().one("Tokenize/Decode", t.DecodeRequest()).text == ""
    size = client.model("words").vocabulary_size
    for id in (size, (1 << 32) - 1):
        request = t.DecodeRequest(ids=[*ids, id])
        assert refused(tei().one, "Tokenize/Decode", request) == (
            "INVALID_ARGUMENT",
            "INVALID_TOKEN_ID",
            f"ids: token id {id} is not in [0, {size})",
        )


STREAMS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "Embed/Embed": ("prompts", lambda text: t.EmbedRequest(inputs=text)),
    "Embed/EmbedAll": ("words", lambda text: t.EmbedAllRequest(inputs=text)),
    "Predict/Predict": ("topics", lambda text: t.PredictRequest(inputs=text)),
    "Predict/PredictPair": ("topics", lambda text: t.PredictPairRequest(inputs=[text, TEXT])),
    "Tokenize/Tokenize": ("prompts", lambda text: t.EncodeRequest(inputs=text)),
    "Tokenize/Decode": ("prompts", lambda text: t.DecodeRequest(ids=range(len(text)))),
}


@pytest.mark.parametrize("rpc", STREAMS)
def test_a_stream_answers_each_message_in_its_order(tei: Tei, rpc: str) -> None:
    model, request = STREAMS[rpc]
    texts = [" ".join([TEXT] * (1 + number % 7)) for number in range(40)]
    answers = list(tei(model).many(f"{rpc}Stream", map(request, texts)))
    alone = {text: tei(model).one(rpc, request(text)) for text in texts[:7]}
    assert len(answers) == len(texts)
    for text, answer in zip(texts, answers, strict=True):
        if rpc.startswith("Embed"):  # batched otherwise, so not to the last bit
            assert answer.metadata.compute_tokens == alone[text].metadata.compute_tokens
            np.testing.assert_allclose(numbers_of(answer), numbers_of(alone[text]), atol=1e-5)
        elif rpc.startswith("Predict"):
            scores = {each.label: each.score for each in answer.predictions}
            assert scores == pytest.approx({each.label: each.score for each in alone[text].predictions}, abs=1e-6)
        else:
            assert answer == alone[text]


def test_messages_of_a_stream_may_differ_in_anything(tei: Tei) -> None:
    """Those that are alike are computed together, and each is answered as it asks."""
    kinds: list[dict[str, Any]] = [
        *({}, {"dimensions": 7}, {"normalize": False}, {"prompt_name": "query"}),
        *({"truncate": True, "inputs": LONG}, {"truncate": True, "inputs": LONG, "truncation_direction": LEFT}),
    ]
    requests = [t.EmbedRequest(**{"inputs": TEXT, **kinds[number // 5 % 6]}) for number in range(60)]
    alone = [tei("prompts").one("Embed/Embed", request) for request in requests[:30:5]]
    for number, answer in enumerate(tei("prompts").many("Embed/EmbedStream", requests)):
        np.testing.assert_allclose(answer.embeddings, alone[number // 5 % 6].embeddings, atol=1e-5)
    pairs = [t.PredictPairRequest(inputs=[TEXT] if number % 3 else PAIR) for number in range(30)]
    scores = [
        {each.label: each.score for each in tei("topics").one("Predict/PredictPair", pair).predictions}
        for pair in pairs[:2]
    ]
    for number, answer in enumerate(tei("topics").many("Predict/PredictPairStream", pairs)):
        found = {each.label: each.score for each in answer.predictions}
        assert found == pytest.approx(scores[number % 3 > 0], abs=1e-6)


def numbers_of(answer: Any) -> list[float]:
    if isinstance(answer, t.EmbedResponse):
        return list(answer.embeddings)
    return [number for each in answer.token_embeddings for number in each.embeddings]


@pytest.mark.parametrize("at", [0, 1, 30])
def test_a_bad_message_ends_a_stream_behind_all_answers_before_it(tei: Tei, at: int) -> None:
    requests = [t.EmbedRequest(inputs=LONG if number == at else TEXT) for number in range(40)]
    answers = tei().many("Embed/EmbedStream", requests)
    for _ in range(at):
        assert len(next(answers).embeddings) == HIDDEN
    status, reason, message = refused(lambda: next(answers))
    assert (status, reason) == ("INVALID_ARGUMENT", "INVALID_TEXT_LENGTH")
    assert message.startswith("inputs: has ")


def test_a_stream_without_messages(tei: Tei) -> None:
    assert list(tei().many("Embed/EmbedStream", [])) == []


def test_without_a_name_the_first_model_answers_that_can(tei: Tei) -> None:
    assert tei().one("Info/Info", t.InfoRequest()).model_id == "words"
    same(
        tei().one("Embed/Embed", t.EmbedRequest(inputs=TEXT)).embeddings,
        tei("words").one("Embed/Embed", t.EmbedRequest(inputs=TEXT)).embeddings,
    )
    labels = {each.label for each in tei().one("Predict/Predict", t.PredictRequest(inputs=TEXT)).predictions}
    assert labels == {"sport", "politics", "weather", "food"}


def test_a_model_that_there_is_not(tei: Tei) -> None:
    for call in (
        lambda: tei("none").one("Info/Info", t.InfoRequest()),
        lambda: list(tei("none").many("Embed/EmbedStream", [])),
        lambda: tei("none").together("Rerank/RerankStream", []),
    ):
        assert refused(call)[:2] == ("NOT_FOUND", "MODEL_NOT_FOUND")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("words", t.MODEL_TYPE_EMBEDDING), ("topics", t.MODEL_TYPE_CLASSIFIER), ("reranker", t.MODEL_TYPE_RERANKER)],
)
def test_what_is_told_of_a_model(tei: Tei, client: Client, name: str, kind: t.ModelType.ValueType) -> None:
    told, ours = tei(name).one("Info/Info", t.InfoRequest()), client.model(name)
    assert told == t.InfoResponse(
        version="0",
        model_id=name,
        model_sha=ours.revision,
        model_dtype="float32",
        model_type=kind,
        max_concurrent_requests=1024,
        max_input_length=ours.default_max_length,
        max_batch_tokens=2048,
        max_client_batch_size=64,
        tokenization_workers=1,
    )


def test_bytes_that_are_not_a_message(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        embed: Any = channel.unary_unary("/tei.v1.Embed/Embed")
        rerank: Any = channel.unary_unary("/tei.v1.Rerank/Rerank")
        for raw, reason, message in (
            (b"\xff\xff", "MALFORMED_MESSAGE", "the bytes are not a message of this type"),
            (b"\x0a\x01\xff", "INVALID_UTF8", "inputs: the bytes are not UTF-8"),
        ):
            assert refused(embed, raw)[1:] == (reason, message)
        assert refused(rerank, b"\x12\x01a\x12\x01\xff")[2].startswith("texts[1]: ")


def test_a_direction_that_there_is_not(tei: Tei) -> None:
    request = t.EmbedRequest(inputs=TEXT, truncation_direction=7)  # type: ignore[arg-type]
    assert refused(lambda: tei().one("Embed/Embed", request)) == (
        "INVALID_ARGUMENT",
        "INVALID_ENUM",
        "truncation_direction: 7 is not a valid value here",
    )
