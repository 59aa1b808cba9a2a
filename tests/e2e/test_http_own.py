"""Our own endpoints over HTTP give the texts and the numbers of gRPC."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from bertstream.client import Client
from tests.support.other_apis import MAX_TEXTS, ServedApis

TEXTS = ["The quick brown fox", "jumps over the lazy dog", "Größere fox 🚀"]
WHOLE: list[dict[str, Any]] = [
    {},
    {"max_new_tokens": 5, "token_scores": True},
    {"num_beams": 3, "num_return_sequences": 2, "early_stopping": "never", "length_penalty": 0.7},
    {"do_sample": True, "seed": 2**64 - 1, "temperature": 0.7, "top_k": 9, "top_p": 0.9, "num_return_sequences": 3},
    {"bad_words": ["fox"], "stop_strings": ["e"], "repetition_penalty": 1.3, "no_repeat_ngram_size": 2},
    {"eos_token_ids": 7, "keep_special_tokens": True, "min_new_tokens": 1, "max_length": 3, "truncation_side": "right"},
]


@pytest.fixture(scope="module")
def client(other_apis: ServedApis) -> Iterator[Client]:
    with Client(other_apis.address) as opened:
        yield opened


def several(generation: Any) -> list[Any]:
    """Return the client's answers to one input, which has no list of them unless several are asked for."""
    return generation if isinstance(generation, list) else [generation]


def told(generation: Any) -> list[dict[str, Any]]:
    """Return the client's answers to one input as HTTP tells them, without scores."""
    return [
        {"generated_text": each.text, "finish_reason": each.finish_reason, "token_ids": list(each.token_ids)}
        for each in several(generation)
    ]


def without_scores(texts: Any) -> list[dict[str, Any]]:
    return [{key: value for key, value in text.items() if not key.endswith(("score", "scores"))} for text in texts]


@pytest.mark.parametrize("options", WHOLE, ids=lambda each: next(iter(each), "none"))
def test_texts_are_those_of_grpc(other_apis: ServedApis, client: Client, options: dict[str, Any]) -> None:
    answer = other_apis.post("/v1/generate", {"model": "writer", "inputs": TEXTS, **options}).json
    ours = client.generate(TEXTS, model="writer", **options)
    assert [without_scores(texts) for texts in answer["generations"]] == [told(each) for each in ours]
    for texts, each in zip(answer["generations"], ours, strict=True):
        for text, our in zip(texts, several(each), strict=True):
            np.testing.assert_allclose(text["score"], our.score, rtol=1e-6)  # in another batch, so not the same bits
            assert ("token_scores" in text) == bool(options.get("token_scores"))
    tokens = [len(text["token_ids"]) for texts in answer["generations"] for text in texts]
    assert answer["usage"]["generated_tokens"] == sum(tokens)
    assert (answer["model"], answer["usage"]["inputs"]) == ("writer", 3)


def test_one_text_has_one_list_of_answers(other_apis: ServedApis, client: Client) -> None:
    answer = other_apis.post("/v1/generate", {"inputs": TEXTS[0], "do_sample": True}).json
    again = client.generate(TEXTS[0], model="writer", do_sample=True, seed=answer["seed"])
    assert without_scores(answer["generations"]) == told(again)
    ids = client.tokenize(TEXTS[0], model="writer", add_special_tokens=False)[0].token_ids.tolist()
    by_ids = other_apis.post("/v1/generate", {"inputs": ids}).json
    assert without_scores(by_ids["generations"]) == told(client.generate([ids], model="writer")[0])


def test_pieces_are_those_of_grpc(other_apis: ServedApis, client: Client) -> None:
    options: dict[str, Any] = {"do_sample": True, "seed": 5, "num_return_sequences": 2, "token_scores": True}
    answer = other_apis.post("/v1/generate", {"inputs": TEXTS[0], "stream": True, **options})
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
    assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-store", "no")
    (begin, started), *pieces, (end, completed) = answer.events
    assert (begin, end, {kind for kind, _ in pieces}) == ("started", "completed", {"piece"})
    whole = client.generate(TEXTS[0], model="writer", **options)
    assert started == {"model": "writer", "input_tokens": completed["usage"]["input_tokens"], "seed": 5}
    assert without_scores(completed["generations"]) == told(whole)
    for index, text in enumerate(completed["generations"]):
        own = [piece for _, piece in pieces if piece["sequence_index"] == index]
        assert "".join(piece["text"] for piece in own) == text["generated_text"]
        assert [token for piece in own for token in piece["token_ids"]] == text["token_ids"]
        scores = [score for piece in own for score in piece.get("token_scores", ())]
        assert scores == text["token_scores"]


BAD_GENERATIONS: list[tuple[Any, int, str, str | None]] = [
    ({}, 400, "INVALID_TYPE", None),
    ({"inputs": []}, 400, "INVALID_EMPTY_LIST", "inputs"),
    ({"inputs": "a", "max_tokens": 3}, 400, "INVALID_TYPE", None),
    ({"inputs": "a", "max_new_tokens": "3"}, 400, "INVALID_TYPE", "max_new_tokens"),
    ({"inputs": "a", "max_new_tokens": 0}, 400, "INVALID_RANGE", "max_new_tokens"),
    ({"inputs": "a", "max_new_tokens": 10**30}, 400, "INVALID_RANGE", "max_new_tokens"),
    ({"inputs": "a", "seed": -1}, 400, "INVALID_RANGE", "seed"),
    ({"inputs": "a", "do_sample": True, "temperature": 1e300}, 400, "INVALID_RANGE", "temperature"),
    ({"inputs": "a", "eos_token_ids": [1, -5]}, 400, "INVALID_TOKEN_ID", "eos_token_ids[1]"),
    ({"inputs": "a", "top_k": 5}, 400, "INVALID_COMBINATION", "top_k"),
    ({"inputs": "a", "max_length": 0}, 400, "INVALID_RANGE", "max_length"),
    ({"inputs": "a", "max_length": 10**6}, 400, "INVALID_RANGE", "max_length"),
    ({"inputs": "a", "truncation": "some"}, 400, "INVALID_TYPE", "truncation"),
    ({"inputs": "a " * 600, "truncation": False}, 400, "INVALID_TEXT_LENGTH", "inputs"),
    ({"inputs": ["a", "b"], "stream": True}, 400, "INVALID_COMBINATION", "stream"),
    ({"inputs": "a", "stream": True, "num_beams": 2}, 400, "INVALID_COMBINATION", "num_beams"),
    ({"inputs": "a", "bad_words": [""]}, 400, "INVALID_EMPTY_TEXT", "bad_words[0]"),
    ({"inputs": "a", "model": "words"}, 400, "HEAD_NOT_AVAILABLE", None),
    ({"inputs": "a", "model": "none"}, 404, "MODEL_NOT_FOUND", None),
    ({"inputs": ["a"] * (MAX_TEXTS + 1)}, 413, "REQUEST_TOO_LARGE", "inputs"),
]


@pytest.mark.parametrize(("body", "status", "reason", "field"), BAD_GENERATIONS)
def test_what_cannot_be_generated(
    other_apis: ServedApis, body: Any, status: int, reason: str, field: str | None
) -> None:
    refused(other_apis.post("/v1/generate", body), status, reason, field)


def refused(answer: Any, status: int, reason: str, field: str | None) -> None:
    """Assert that this is an error in our form."""
    (error,) = answer.json.values()
    assert (answer.status, error["reason"], error["field"]) == (status, reason, field), error["message"]
    assert sorted(error) == ["code", "field", "message", "reason"]
    assert "options." not in error["message"]
    assert 0 < len(error["message"]) < 600


def test_layers_are_those_of_grpc(other_apis: ServedApis, client: Client) -> None:
    tokenized = client.tokenize(TEXTS, model="words")
    for layers, heads in ((None, None), ([0, 2, -1], [2, 0])):
        outputs: Any = ["hidden_states", "attentions"]
        body = {"inputs": TEXTS, "outputs": outputs} | ({"layers": layers, "heads": heads} if layers else {})
        asked: list[int] = layers or [-1]
        ours = client.forward(TEXTS, outputs, model="words", layers=asked, heads=heads)
        lists = other_apis.post("/v1/layers", body).json
        coded = other_apis.post("/v1/layers", {**body, "encoding_format": "base64"}).json
        assert lists["usage"] == {"inputs": 3, "input_tokens": sum(len(each.tokens) for each in ours), **NONE_CUT}
        for index, (text, packed, our) in enumerate(zip(lists["data"], coded["data"], ours, strict=True)):
            assert (text["index"], text["tokens"]) == (index, list(our.tokens))
            assert text["token_ids"] == tokenized[index].token_ids.tolist()
            for output, of in (("hidden_states", our.hidden_states), ("attentions", our.attentions)):
                assert [each["layer"] for each in text[output]] == sorted(of)
                for each, same in zip(text[output], packed[output], strict=True):
                    raw = np.frombuffer(base64.b64decode(same["values"]), "<f4").reshape(same["shape"])
                    np.testing.assert_array_equal(np.array(each["values"], np.float32), of[each["layer"]])
                    np.testing.assert_array_equal(raw, of[each["layer"]])


NONE_CUT = {"truncated_inputs": 0}


def test_layers_have_prompts_and_cuts(other_apis: ServedApis, client: Client) -> None:
    options: Any = {"max_length": 4, "truncation": "longest_first", "truncation_side": "left", "prompt_name": "query"}
    body = {"model": "prompts", "inputs": TEXTS[0], "layers": 1, **options}
    answer = other_apis.post("/v1/layers", body).json
    (ours,) = client.forward(TEXTS[:1], ["hidden_states"], model="prompts", layers=1, **options)
    ((state,),) = [text["hidden_states"] for text in answer["data"]]
    np.testing.assert_array_equal(np.array(state["values"], np.float32), ours.hidden_states[1])
    assert answer["usage"] == {"inputs": 1, "input_tokens": 4, "truncated_inputs": 1}


BAD_LAYERS: list[tuple[Any, int, str, str | None]] = [
    ({"inputs": "a", "layers": []}, 400, "INVALID_EMPTY_LIST", "layers"),
    ({"inputs": "a", "outputs": []}, 400, "INVALID_EMPTY_LIST", "outputs"),
    ({"inputs": "a", "layers": [1, 10**30]}, 400, "INVALID_RANGE", "layers[1]"),
    ({"inputs": "a", "layers": [5, -1]}, 400, "INVALID_COMBINATION", "layers"),
    ({"inputs": "a", "layers": [0], "outputs": ["attentions"]}, 400, "INVALID_COMBINATION", "layers"),
    ({"inputs": "a", "heads": [0]}, 400, "INVALID_COMBINATION", "heads"),
    ({"inputs": "a", "outputs": ["attentions"], "heads": [10**10]}, 400, "INVALID_RANGE", "heads"),
    ({"inputs": "a", "outputs": ["pooled"]}, 400, "INVALID_TYPE", "outputs[0]"),
    ({"inputs": "a", "prompt": "b", "prompt_name": "c"}, 400, "INVALID_COMBINATION", "prompt_name"),
    ({"inputs": "a", "prompt_name": "c"}, 400, "INVALID_PROMPT_NAME", "prompt_name"),
    ({"inputs": [1 << 20]}, 400, "INVALID_TOKEN_ID", "inputs"),
    ({"inputs": "a", "encoding_format": "int8"}, 400, "INVALID_TYPE", "encoding_format"),
    (
        {"inputs": ["a " * 500] * MAX_TEXTS, "outputs": ["attentions"], "truncation": True},
        413,
        "REQUEST_TOO_LARGE",
        "inputs",
    ),
]


@pytest.mark.parametrize(("body", "status", "reason", "field"), BAD_LAYERS)
def test_layers_that_cannot_be(other_apis: ServedApis, body: Any, status: int, reason: str, field: str | None) -> None:
    refused(other_apis.post("/v1/layers", body), status, reason, field)
