"""The HTTP API of text-embeddings-inference; what it is asked and does unless told otherwise is that of `tei.v1`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from msgspec import Struct

from bertstream.server.core.encoding import Encoded
from bertstream.server.core.errors import invalid
from bertstream.server.core.models import Models, ServedModel
from bertstream.server.core.preparation import Prepared
from bertstream.server.core.sent import Sent, SentItems, SentTexts
from bertstream.server.core.tasks.calls import answer_items, prepare_items
from bertstream.server.core.tasks.labels import ClassifyTexts, TextLabels
from bertstream.server.core.tasks.sparse import EncodeSparse, SparseVectors
from bertstream.server.core.tokenization import Pairs, Side, Texts, Truncation
from bertstream.server.protocols.http.answers import HttpAnswer, answer_of, dumped
from bertstream.server.protocols.http.bodies import parsed
from bertstream.server.protocols.http.call import HttpCall
from bertstream.server.protocols.http.endpoints import Endpoint
from bertstream.server.protocols.http.forms import rerank_form, tei_form
from bertstream.server.protocols.http.rerank import RankDocumentsRequest, rank_documents
from bertstream.server.protocols.http.reranking import ranked
from bertstream.server.protocols.http.tei_tokens import DecodeRequest, TokenizeRequest, decode, tokenize
from bertstream.server.protocols.http.texts import TextsOrIds, check_count, items_of, sent_of
from bertstream.server.protocols.http.vectors import encode_request, listed
from bertstream.server.protocols.tei_v1 import defaults
from bertstream.server.protocols.tei_v1.choosing import ANY, CLASSIFIER, EMBEDDING, RERANKER, SPARSE
from bertstream.server.protocols.tei_v1.services.info import describe
from bertstream.server.protocols.tei_v1.tei_pb2 import ModelType
from bertstream.workers.contract import INTERACTIVE, OutputOptions
from bertstream.workers.programs.description import ModelDescription


class Cut(Struct):
    """What bodies say of texts that are too long; null means no."""

    truncate: bool | None = None
    truncation_direction: str = "Right"


class EmbedAllRequest(Cut, kw_only=True):
    """The body of `/embed_all` and `/embed_sparse`."""

    inputs: TextsOrIds
    prompt_name: str | None = None


class EmbedRequest(EmbedAllRequest, kw_only=True):
    """The body of `/embed`."""

    normalize: bool | None = None
    dimensions: int | None = None


class PredictRequest(Cut, kw_only=True):
    """The body of `/predict`."""

    inputs: str | list[str | list[str]]
    raw_scores: bool = False


class RerankRequest(Cut, kw_only=True):
    """The body of `/rerank`; with `documents` it is Cohere's or Jina's."""

    query: str
    texts: list[str] | None = None
    raw_scores: bool = False
    return_text: bool = False
    documents: Any = None


class Compared(Struct):
    """A sentence, and those to compare it with."""

    source_sentence: str
    sentences: list[str]


class SimilarityParameters(Cut, kw_only=True):
    """The options of `/similarity`."""

    prompt_name: str | None = None


class SimilarityRequest(Struct):
    """The body of `/similarity`."""

    inputs: Compared
    parameters: SimilarityParameters | None = None


def endpoints(models: Models, version: str, tokenizer_threads: int) -> Sequence[Endpoint]:
    """Return all endpoints but health, which is everybody's."""

    def post(path: str, handle: Any, about: str, request: type[Struct], example: Any) -> Endpoint:
        return Endpoint("POST", path, partial(handle, models), tei_form, about, request, example=example)

    async def info(_: None, call: HttpCall) -> HttpAnswer:
        return answer_of(_described(ANY.choose(models, call), version, tokenizer_threads))

    texts = {"inputs": ["A cat sleeps on the warm roof.", "It will rain all night."]}
    compared = {"inputs": {"source_sentence": "A cat sleeps.", "sentences": ["An animal rests.", "It will rain."]}}
    query = {"query": "Where does the cat sleep?", "texts": ["It will rain.", "On the roof."]}
    return (
        post("/embed", embed, "Turn texts into vectors.", EmbedRequest, {**texts, "dimensions": 4}),
        post("/embed_all", embed_all, "Give a vector for each token.", EmbedAllRequest, {"inputs": "A cat sleeps."}),
        post("/embed_sparse", embed_sparse, "Weigh the vocabulary's ids for texts.", EmbedAllRequest, texts),
        post("/similarity", similarity, "Give the cosines of a text and others.", SimilarityRequest, compared),
        post("/predict", predict, "Give the labels of texts and pairs.", PredictRequest, {"inputs": "A cat sleeps."}),
        post("/rerank", rerank, "Sort texts by their scores for a query.", RerankRequest, query),
        post("/tokenize", tokenize, "Turn texts into tokens.", TokenizeRequest, {"inputs": "A cat sleeps."}),
        post("/decode", decode, "Turn token ids into texts.", DecodeRequest, {"ids": [101, 102]}),
        Endpoint("GET", "/info", info, tei_form, "Tell of the model that answers."),
    )


async def embed(models: Models, request: EmbedRequest, call: HttpCall) -> HttpAnswer:
    """Answer with a vector for each text."""
    model = EMBEDDING.choose(models, call)
    pooling = defaults.pooling(model.description, normalize=request.normalize, dimensions=request.dimensions)
    _, encoded = await _encoded(model, request, OutputOptions(("pooled",), pooling), call)
    return HttpAnswer(await listed(encoded.tensors["pooled"].astype(np.float32, copy=False), _as_it_is))


async def embed_all(models: Models, request: EmbedAllRequest, call: HttpCall) -> HttpAnswer:
    """Answer with the states of all tokens of each text after the last layer."""
    model = EMBEDDING.choose(models, call)
    prepared, encoded = await _encoded(model, request, OutputOptions(("last_hidden_state",)), call)
    states = encoded.tensors["last_hidden_state"].astype(np.float32, copy=False)
    return HttpAnswer(await listed(np.split(states, np.cumsum(prepared.layout.lengths)[:-1]), _as_it_is))


async def embed_sparse(models: Models, request: EmbedAllRequest, call: HttpCall) -> HttpAnswer:
    """Answer with the weights of the vocabulary's ids for each text, in the order of the ids."""
    model = SPARSE.choose(models, call)
    texts = _sent(request, model)
    model.check_room(call.caller, call.deadline)

    def begin() -> tuple[EncodeSparse, SentItems]:
        prompt, cut = defaults.prompt(request.prompt_name, model.description), _truncation(request, model.description)
        asked = request.prompt_name is not None  # token ids have none, also no default one
        return defaults.sparse_task(model, cut, prompt, INTERACTIVE, prompt_asked=asked), texts

    prepared = await prepare_items(model, begin, "send fewer or shorter texts")
    return HttpAnswer(((await answer_items(model, prepared, lambda answer: dumped(_weights(answer)), call)).written,))


async def similarity(models: Models, request: SimilarityRequest, call: HttpCall) -> HttpAnswer:
    """Answer with the cosine of the first sentence with each of the others."""
    model = EMBEDDING.choose(models, call)
    options, inputs = request.parameters or SimilarityParameters(), request.inputs
    check_count(len(inputs.sentences), "inputs.sentences", model.limits.max_texts - 1)
    pooling = defaults.pooling(model.description, normalize=True, dimensions=None)
    texts = [inputs.source_sentence, *inputs.sentences]
    asked = EmbedAllRequest(
        inputs=inputs.source_sentence,
        prompt_name=options.prompt_name,
        truncate=options.truncate,
        truncation_direction=options.truncation_direction,
    )
    sent = Sent(Texts(texts), "inputs", "inputs", single=True)  # as places among both together would mislead
    _, encoded = await _encoded(model, asked, OutputOptions(("pooled",), pooling), call, sent)
    first, others = np.split(encoded.tensors["pooled"].astype(np.float32, copy=False), [1])
    return answer_of(others @ first[0])


async def predict(models: Models, request: PredictRequest, call: HttpCall) -> HttpAnswer:
    """Answer with all labels of a text or pair, best first, or of each in a list of lists.

    A list of texts is one item, as the other server has it: a text, or a pair.
    """
    model = CLASSIFIER.choose(models, call)
    given = request.inputs
    one = isinstance(given, str) or bool(given and isinstance(given[0], str))
    if (not one and any(isinstance(each, str) for each in given)) or (one and not _is_item(given)):
        raise invalid("inputs", "it must be a text, a pair of texts, or a list of lists of one or two", "INVALID_TYPE")
    kinds = items_of([given] if one else given, "inputs", model.limits.max_texts)  # type: ignore[list-item]
    model.check_room(call.caller, call.deadline)
    labels: dict[int, Sequence[Any]] = {}
    for alike in kinds:
        labels.update(zip(alike.places, await _labels(model, request, alike.sent, call), strict=True))
    return answer_of(labels[0] if one else [labels[place] for place in sorted(labels)])


async def rerank(models: Models, request: RerankRequest, call: HttpCall) -> HttpAnswer:
    """Answer with the scores of all texts, best first."""
    if request.texts is not None and request.documents is not None:
        raise invalid("documents", "there are texts too: send one of the two", "INVALID_COMBINATION")
    if request.texts is None:
        if request.documents is None:
            raise invalid("texts", "it is missing", "INVALID_TYPE")
        call.form = rerank_form
        return await rank_documents(models, "1", parsed(call.body, RankDocumentsRequest), call)
    model = RERANKER.choose(models, call)
    cut = _truncation(request, model.description)
    ranking = await ranked(model, request.query, request.texts, "texts", call, cut, raw=request.raw_scores)
    ranks = zip(ranking.indexes, ranking.scores, strict=True)
    shown = request.texts if request.return_text else None
    return answer_of(
        [
            {"index": index, "score": np.float32(score)} | ({"text": shown[index]} if shown else {})
            for index, score in ranks
        ]
    )


async def _encoded(
    model: ServedModel,
    request: EmbedAllRequest,
    options: OutputOptions,
    call: HttpCall,
    sent: SentTexts | None = None,
) -> tuple[Prepared, Encoded]:
    description = model.description
    prompt, cut = defaults.prompt(request.prompt_name, description), _truncation(request, description)
    plan = defaults.plan(options, cut, prompt, description, INTERACTIVE)
    plan = replace(plan, prompt_asked=request.prompt_name is not None)  # token ids have none, also no default one
    return await encode_request(model, plan, sent or _sent(request, model), call)


def _sent(request: EmbedAllRequest, model: ServedModel) -> SentTexts:
    sent = sent_of(request.inputs, "inputs", model.limits.max_texts)
    return replace(sent, option_paths={"prompt": "prompt_name"})


def _truncation(request: Cut, description: ModelDescription) -> Truncation:
    """Return how texts are cut. Raises INVALID_ENUM."""
    sides: Mapping[str, Side] = {"right": "right", "left": "left"}
    side = sides.get(request.truncation_direction.lower())
    if side is None:
        raise invalid("truncation_direction", "it must be Left or Right", "INVALID_ENUM")
    return defaults.truncation(description, truncate=bool(request.truncate), side=side)


def _as_it_is(index: int, row: Any) -> Any:
    return np.ascontiguousarray(row)  # as orjson wants it


def _is_item(given: str | Sequence[Any]) -> bool:
    return isinstance(given, str) or all(isinstance(text, str) for text in given)


async def _labels(
    model: ServedModel, request: PredictRequest, sent: Sent[Texts | Pairs], call: HttpCall
) -> Sequence[Sequence[Any]]:
    """Return the labels of texts, or of pairs."""

    def begin() -> tuple[ClassifyTexts, SentItems]:
        cut = _truncation(request, model.description)
        return defaults.label_task(model, cut, INTERACTIVE, raw=request.raw_scores), sent

    prepared = await prepare_items(model, begin, "send fewer or shorter texts")
    return (await answer_items(model, prepared, _predictions, call)).written


def _weights(answer: SparseVectors) -> Sequence[Sequence[Any]]:
    pairs = zip(answer.token_ids.tolist(), answer.weights.astype(np.float32, copy=False), strict=True)
    weights = [{"index": index, "value": value} for index, value in pairs]
    ends = np.cumsum(answer.weight_counts).tolist()
    return [weights[end - count : end] for end, count in zip(ends, answer.weight_counts, strict=True)]


def _predictions(answer: TextLabels) -> Sequence[Sequence[Any]]:
    scores = answer.scores.astype(np.float32, copy=False)
    labels = [
        {"label": answer.labels[label], "score": score}
        for label, score in zip(answer.label_ids.tolist(), scores, strict=True)
    ]
    ends = np.cumsum(answer.label_counts).tolist()
    return [labels[end - count : end] for end, count in zip(ends, answer.label_counts, strict=True)]


def _described(model: ServedModel, version: str, tokenizer_threads: int) -> Mapping[str, Any]:
    """Return what `Info` tells of a model, in the names of HTTP's `/info`."""
    told, description = describe(model, version, tokenizer_threads), model.description
    labels = {str(number): label for number, label in enumerate(description.labels)}
    classifier = {"id2label": labels, "label2id": {label: int(number) for number, label in labels.items()}}
    kinds: Mapping[int, Mapping[str, Any]] = {
        ModelType.MODEL_TYPE_EMBEDDING: {"embedding": {"pooling": description.default_pooling.mode}},
        ModelType.MODEL_TYPE_CLASSIFIER: {"classifier": classifier},
        ModelType.MODEL_TYPE_RERANKER: {"reranker": classifier},
    }
    return {
        "model_id": told.model_id,
        "model_sha": told.model_sha,
        "model_dtype": told.model_dtype,
        "model_type": kinds[told.model_type],
        "max_concurrent_requests": told.max_concurrent_requests,
        "max_input_length": told.max_input_length,
        "max_batch_tokens": told.max_batch_tokens,
        "max_batch_requests": None,
        "max_client_batch_size": told.max_client_batch_size,
        "auto_truncate": False,
        "tokenization_workers": told.tokenization_workers,
        "version": told.version,
        "sha": None,
        "docker_label": None,
    }
