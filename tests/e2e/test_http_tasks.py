"""Our own tasks over HTTP give the numbers of gRPC, in shapes that users of transformers know."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from bertstream.client import Client
from tests.support.checkpoints import CORPUS
from tests.support.other_apis import MAX_TEXTS, ServedApis

TEXTS = ["The quick brown fox", "jumps over the lazy dog", "Größere fox 🚀 in Berlin"]
TEXT, PAIRS = TEXTS[0], [TEXTS[:2], TEXTS[1:]]
MASKS = ["The quick [MASK] fox", "[MASK] answers questions about [MASK]."]
LONG = " ".join(CORPUS[:4] * 12)


@pytest.fixture(scope="module")
def client(other_apis: ServedApis) -> Iterator[Client]:
    with Client(other_apis.address) as opened:
        yield opened


@pytest.fixture
def post(other_apis: ServedApis) -> Any:
    """Post a body to a route; its other fields are options."""

    def posted(path: str, **body: Any) -> Any:
        answer = other_apis.post(f"/v1/{path}", body)
        assert answer.status == 200, answer.text
        return answer.json

    return posted


def float32(number: float) -> float:
    """Return the number that a float32 has room for."""
    return float(np.float32(number))


def test_masks(post: Any, client: Client) -> None:
    def told(each: Any) -> Any:
        return [each.token_id, each.token, float32(each.score), each.sequence]

    def read(each: Any) -> Any:
        return [each["token"], each["token_str"], float32(each["score"]), each["sequence"]]

    options: Any = {"model": "mlm", "top_k": 3, "truncation": False}
    one, several = post("fill-mask", inputs=MASKS, **options)
    (ours,), others = client.fill_mask(MASKS, **options)
    assert [read(each) for each in one] == [told(each) for each in ours]
    assert [[read(each) for each in mask] for mask in several] == [[told(each) for each in mask] for mask in others]
    alone = post("fill-mask", inputs=MASKS[0], target_ids=[7, 9], omit_sequences=True)  # by the first that has masks
    (ours,) = client.fill_mask(MASKS[0], model="mlm", targets=[7, 9])
    assert [[each["token"], float32(each["score"])] for each in alone] == [
        [each.token_id, float32(each.score)] for each in ours
    ]
    assert "sequence" not in alone[0]


def test_likelihoods(post: Any, client: Client) -> None:
    for given, ours in zip(
        post("score", inputs=TEXTS, model="mlm"), client.score_text(TEXTS, model="mlm"), strict=True
    ):
        assert given["score"] == ours.score
        assert given["token_ids"] == ours.token_ids.tolist()
        np.testing.assert_array_equal(np.array(given["log_probabilities"], np.float32), ours.log_probabilities)
    pair = client.score_text([tuple(PAIRS[0])], model="mlm")[0]
    assert post("score", inputs=PAIRS[:1], model="mlm")[0]["score"] == pair.score


def test_next_sentences(post: Any, client: Client) -> None:
    ours = client.next_sentence([(first, second) for first, second in PAIRS], model="next")
    assert [float32(each["probability"]) for each in post("next-sentence", inputs=PAIRS)] == ours
    alone = client.next_sentence(PAIRS[0][0], PAIRS[0][1], model="next")
    assert float32(post("next-sentence", inputs=PAIRS[0])["probability"]) == alone


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("topics", {"top_k": 2}),
        ("many", {"function": "none"}),
        ("topics", {"truncation_side": "left", "max_length": 9}),
    ],
)
def test_labels(post: Any, client: Client, model: str, options: Any) -> None:
    def read(labels: Any) -> Any:
        return [(each["label"], float32(each["score"])) for each in labels]

    def told(labels: Any) -> Any:
        return [(each.label, float32(each.score)) for each in labels]

    given = post("classify", inputs=[*TEXTS, LONG], model=model, **options)
    assert [read(each) for each in given] == [
        told(each) for each in client.classify([*TEXTS, LONG], model=model, **options)
    ]
    assert read(post("classify", inputs=TEXT, model=model, **options)) == told(
        client.classify(TEXT, model=model, **options)
    )
    pairs = client.classify([(first, second) for first, second in PAIRS], model=model, **options)
    assert [read(each) for each in post("classify", inputs=PAIRS, model=model, **options)] == [
        told(each) for each in pairs
    ]


@pytest.mark.parametrize("multi_label", [False, True])
def test_zero_shot_labels(post: Any, client: Client, multi_label: bool) -> None:
    labels = ["animals", "weather", "rockets"]
    given = post("zero-shot", inputs=TEXTS, labels=labels, multi_label=multi_label, hypothesis_template="About {}.")
    found = client.zero_shot(TEXTS, labels, multi_label=multi_label, template="About {}.", model="nli")
    for text, each, ours in zip(TEXTS, given, found, strict=True):
        assert (each["sequence"], each["labels"]) == (text, [label.label for label in ours])
        assert [float32(score) for score in each["scores"]] == [float32(label.score) for label in ours]
    alone = post("zero-shot", inputs=TEXT, labels=labels)
    assert alone["labels"] == [label.label for label in client.zero_shot(TEXT, labels, model="nli")]


@pytest.mark.parametrize("aggregation", ["none", "simple", "max"])
def test_entities(post: Any, client: Client, aggregation: Any) -> None:
    name = "entity" if aggregation == "none" else "entity_group"
    given = post("entities", inputs=TEXTS, aggregation=aggregation)
    for text, found, ours in zip(
        TEXTS, given, client.entities(TEXTS, aggregation=aggregation, model="words"), strict=True
    ):
        assert [[each[name], float32(each["score"]), each["word"], each["start"], each["end"]] for each in found] == [
            [each.label, float32(each.score), each.word, each.start, each.end] for each in ours
        ]
        assert [each.get("index") for each in found] == [each.token_index for each in ours]
        assert all(0 <= each["start"] < each["end"] <= len(text) for each in found)
    assert any(given)
    units = {
        each["end"] for each in post("entities", inputs=TEXTS[2], aggregation=aggregation, offset_unit="utf16_units")
    }
    counted = client.entities(TEXTS[2], aggregation=aggregation, offset_unit="utf16_units", model="words")
    assert units == {each.end for each in counted}
    every = post("entities", inputs=LONG, aggregation="none", ignored_labels=[], windows=True, stride=3)
    ours = client.entities(LONG, aggregation="none", ignored_labels=[], windows=True, stride=3, model="words")
    assert [(each["start"], each["entity"]) for each in every] == [(each.start, each.label) for each in ours]


def test_answers(post: Any, client: Client) -> None:
    def read(each: Any) -> Any:
        return [each["answer"], float32(each["score"]), each["start"], each["end"]]

    def told(each: Any) -> Any:
        return [each.text, float32(each.score), each.start, each.end]

    question = "What jumps 🚀?"
    assert read(post("answer", question=question, context=LONG)) == told(client.answer(question, LONG, model="answers"))
    options: Any = {"top_k": 2, "max_length": 40, "stride": 5, "max_answer_tokens": 4, "allow_no_answer": True}
    given = post("answer", question=[question, "Why?"], context=LONG, **options)
    ours = client.answer([(question, LONG), ("Why?", LONG)], model="answers", **options)
    assert [[read(each) for each in answers] for answers in given] == [
        [told(each) for each in answers] for answers in ours
    ]


def test_choices(post: Any, client: Client) -> None:
    prompts, choices = TEXTS[:2], [["runs", "sleeps", "is a fox"], ["barks"]]
    given = post("choose", prompt=prompts, choices=choices)
    ours = client.choose(list(zip(prompts, choices, strict=True)), model="choices")
    assert [[float32(each) for each in one["probabilities"]] for one in given] == ours
    alone = post("choose", prompt=prompts[0], choices=choices[0])["probabilities"]
    assert [float32(each) for each in alone] == client.choose(prompts[0], choices[0], model="choices")


BAD_BODIES: list[tuple[str, Any, int, str, str | None]] = [
    ("fill-mask", b"{", 400, "MALFORMED_MESSAGE", None),
    ("fill-mask", {}, 400, "INVALID_TYPE", None),
    ("fill-mask", {"inputs": "[MASK]", "topk": 3}, 400, "INVALID_TYPE", None),
    ("fill-mask", {"inputs": "[MASK]", "top_k": 0}, 400, "INVALID_TYPE", "top_k"),
    ("fill-mask", {"inputs": "[MASK]", "top_k": 1 << 40}, 400, "INVALID_TYPE", "top_k"),
    ("fill-mask", {"inputs": "[MASK]", "top_k": 10**30}, 400, "INVALID_TYPE", "top_k"),
    ("fill-mask", {"inputs": "[MASK]", "targets": []}, 400, "INVALID_TYPE", "targets"),
    ("fill-mask", {"inputs": "[MASK]", "target_ids": [1 << 40]}, 400, "INVALID_TYPE", "target_ids[0]"),
    ("fill-mask", {"inputs": "[MASK]", "top_k": 1001}, 400, "INVALID_RANGE", "top_k"),
    ("fill-mask", {"inputs": "[MASK]", "max_length": 10_000}, 400, "INVALID_RANGE", "max_length"),
    ("fill-mask", {"inputs": "[MASK]", "max_length": 1}, 400, "INVALID_TRUNCATION", "inputs"),
    ("fill-mask", {"inputs": ["[MASK]", "none"]}, 400, "INVALID_MASK", "inputs[1]"),
    ("fill-mask", {"inputs": "[MASK]", "targets": ["a b c"]}, 400, "INVALID_TARGET", "targets[0]"),
    ("fill-mask", {"inputs": "[MASK]", "target_ids": [1 << 20]}, 400, "INVALID_TOKEN_ID", "target_ids[0]"),
    ("fill-mask", {"inputs": "[MASK]", "model": "x"}, 404, "MODEL_NOT_FOUND", None),
    ("fill-mask", {"inputs": "[MASK]", "model": "topics"}, 400, "HEAD_NOT_AVAILABLE", None),
    ("score", {"inputs": LONG, "truncation": False, "model": "mlm"}, 400, "INVALID_TEXT_LENGTH", "inputs"),
    ("score", {"inputs": ["a"] * (MAX_TEXTS + 1)}, 413, "REQUEST_TOO_LARGE", "inputs"),
    ("next-sentence", {"inputs": ["a"]}, 400, "INVALID_TYPE", "inputs[0]"),
    ("classify", {"inputs": []}, 400, "INVALID_EMPTY_LIST", "inputs"),
    ("classify", {"inputs": "a", "function": "relu"}, 400, "INVALID_TYPE", "function"),
    ("zero-shot", {"inputs": "a", "labels": []}, 400, "INVALID_EMPTY_LIST", "labels"),
    ("zero-shot", {"inputs": "a", "labels": ["x", "x"]}, 400, "INVALID_LABEL", "labels[1]"),
    (
        "zero-shot",
        {"inputs": "a", "labels": ["x"], "hypothesis_template": "y"},
        400,
        "INVALID_TEMPLATE",
        "hypothesis_template",
    ),
    ("zero-shot", {"inputs": ["a", "b"], "labels": ["x", LONG]}, 400, "INVALID_TEXT_LENGTH", "labels[1]"),
    ("zero-shot", {"inputs": ["a"] * 33, "labels": ["x", "y"]}, 413, "REQUEST_TOO_LARGE", "inputs"),
    ("zero-shot", {"inputs": "a", "labels": ["x"], "model": "topics"}, 400, "HEAD_NOT_SUITABLE", None),
    ("entities", {"inputs": "a", "stride": 3}, 400, "INVALID_COMBINATION", "stride"),
    ("entities", {"inputs": "a", "labels": ["x"]}, 400, "HEAD_NOT_SUITABLE", "labels"),
    ("entities", {"inputs": [["a", "b"]]}, 400, "INVALID_TYPE", "inputs[0]"),
    ("entities", {"inputs": "a", "aggregation": "most"}, 400, "INVALID_TYPE", "aggregation"),
    ("entities", {"inputs": "a", "windows": True, "stride": -1}, 400, "INVALID_TYPE", "stride"),
    ("entities", {"inputs": "a", "priority": "now"}, 400, "INVALID_TYPE", "priority"),
    ("answer", {"question": "a"}, 400, "INVALID_TYPE", None),
    ("answer", {"question": ["a", ""], "context": "b"}, 400, "INVALID_EMPTY_TEXT", "question[1]"),
    ("answer", {"question": LONG, "context": "b", "max_length": 20}, 400, "INVALID_TEXT_LENGTH", "question"),
    ("answer", {"question": LONG, "context": ["b", "c"], "max_length": 20}, 400, "INVALID_TEXT_LENGTH", "question"),
    ("answer", {"question": "a", "context": ["b", ""]}, 400, "INVALID_EMPTY_TEXT", "context[1]"),
    ("choose", {"prompt": "a", "choices": []}, 400, "INVALID_EMPTY_LIST", "choices"),
    ("choose", {"prompt": "a", "choices": [["b"]]}, 400, "INVALID_TYPE", "choices"),
    ("choose", {"prompt": ["a", "b"], "choices": ["c", "d"]}, 400, "INVALID_TYPE", "choices"),
    ("choose", {"prompt": ["a"], "choices": [["c"], ["d"]]}, 400, "INVALID_LENGTHS", "choices"),
    ("choose", {"prompt": ["a", "b"], "choices": [["c"], []]}, 400, "INVALID_EMPTY_LIST", "choices[1]"),
    ("choose", {"prompt": "a", "choices": ["b"] * (MAX_TEXTS + 1)}, 413, "REQUEST_TOO_LARGE", "choices"),
]


@pytest.mark.parametrize(("path", "body", "status", "reason", "field"), BAD_BODIES)
def test_a_bad_body_is_told_what_is_wrong(
    other_apis: ServedApis, path: str, body: Any, status: int, reason: str, field: str | None
) -> None:
    answer = other_apis.post(f"/v1/{path}", body)
    error = answer.json["error"]
    assert (answer.status, error["reason"], error["field"]) == (status, reason, field)
    assert error["code"] in {"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"}
    assert error["message"]
    assert "\n" not in error["message"]
    assert "options" not in error["message"]  # which bodies do not have
    assert "retry_after" not in error
