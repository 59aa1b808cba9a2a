"""Both clients against a fake server: task heads, in unary calls."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest

import bertstream.client as sdk
from bertstream.client import Answer, Candidate, Entity, InvalidArgument, Label, Ranked, Report
from bertstream.v1 import tasks_pb2 as tasks
from bertstream.v1 import tokenization_pb2 as tokenization
from bertstream.v1 import types_pb2 as types
from tests.client.fake_server import Code, FakeServer, status
from tests.client.fake_tasks import (
    LABELS,
    answers_to,
    falling,
    filled,
    labels_of,
    log_probabilities,
    next_probability,
    probabilities_of,
    relevance,
)

PARIS = "[MASK] is the [MASK] of France."
COMMON = {"model": "tiny", "max_length": 9, "truncation": False, "truncation_side": "left", "priority": "bulk"}
# A call of each method with a given number of items.
CALLS: dict[str, Any] = {
    "fill_mask": lambda client, count, **given: client.fill_mask(["[MASK]"] * count, **given),
    "score_text": lambda client, count, **given: client.score_text(["ab"] * count, **given),
    "next_sentence": lambda client, count, **given: client.next_sentence([("a", "b")] * count, **given),
    "classify": lambda client, count, **given: client.classify(["a"] * count, **given),
    "zero_shot": lambda client, count, **given: client.zero_shot(["a"] * count, ["x", "y"], **given),
    "rerank": lambda client, count, **given: client.rerank("q", ["a"] * count, **given),
    "entities": lambda client, count, **given: client.entities(["A"] * count, **given),
    "answer": lambda client, count, **given: client.answer([("a", "b")] * count, **given),
    "choose": lambda client, count, **given: client.choose([("a", ["b", "c"])] * count, **given),
    "encode_sparse": lambda client, count, **given: client.encode_sparse(["ab"] * count, **given),
}
# A call of each method with one bad item, and the path that its error names.
FAILING: dict[str, Any] = {
    "fill_mask": (lambda client, texts: client.fill_mask([f"[MASK]{text}" for text in texts]), "inputs.texts"),
    "score_text": (lambda client, texts: client.score_text(texts), "inputs.texts"),
    "next_sentence": (lambda client, texts: client.next_sentence([(text, "b") for text in texts]), "inputs.pairs"),
    "classify": (lambda client, texts: client.classify(texts), "inputs.texts"),
    "zero_shot": (lambda client, texts: client.zero_shot(texts, ["x", "y"]), "inputs.texts"),
    "rerank": (lambda client, texts: client.rerank("q", texts), "documents"),
    "entities": (lambda client, texts: client.entities(texts), "inputs.texts"),
    "answer": (lambda client, texts: client.answer([("q", text) for text in texts]), "inputs"),
    "choose": (lambda client, texts: client.choose([("p", [text, "c"]) for text in texts]), "inputs.prompts"),
    "encode_sparse": (lambda client, texts: client.encode_sparse(texts), "inputs.texts"),
}
tasks_by_name = pytest.mark.parametrize("name", CALLS)


def seen_options(server: FakeServer) -> Any:
    return server.seen.requests[-1].options


def numbers(answers: list[list[Label]]) -> list[list[int]]:
    return [[label.label_id for label in labels] for labels in answers]


def test_fill_mask(client: Any) -> None:
    masks = client.fill_mask(PARIS)
    assert [[candidate.token for candidate in mask] for mask in masks] == [
        [f"t{mask}{rank}" for rank in range(5)] for mask in range(2)
    ]
    assert masks[1][2] == Candidate("t12", 12, 0.125, "[MASK] is the t12 of France.", 2)
    assert client.fill_mask([PARIS, "[MASK]"]) == [masks, client.fill_mask("[MASK]")]
    assert [len(mask) for mask in client.fill_mask(PARIS, top_k=2)] == [2, 2]
    assert client.fill_mask([]) == []


def test_fill_mask_with_targets(server: FakeServer, client: Any) -> None:
    ((one, two, three),) = client.fill_mask("a [MASK]", targets=["cat", 7, "fish"])
    assert [(each.token, each.token_id) for each in (one, two, three)] == [("cat", 3), ("fish", 4), ("t7", 7)]
    ((without,),) = client.fill_mask("a [MASK]", targets=["cat"], sequences=False)
    assert (one.sequence, without.sequence) == (filled("a [MASK]", 0, "cat"), "")


def test_texts_of_every_kind(client: Any) -> None:
    texts: list[Any] = ["[MASK]", ("[MASK]", "b"), ["[MASK]", "d"]]
    assert [masks[0][0].sequence for masks in client.fill_mask(texts)] == ["t00", "t00|b", "t00|d"]
    mixed: list[Any] = ["a", ("b", "c"), ["d"], [5, 6], np.array([7])]
    keys = ["text:a", "pair:b|c", "words:d", "ids:5,6", "ids:7"]
    assert [[label.label_id for label in labels] for labels in client.classify(mixed)] == [
        labels_of(key) for key in keys
    ]
    tokens = client.tokenize("a")[0]
    assert len(client.classify(tokens)) == len(LABELS)


def test_score_text(client: Any) -> None:
    score = client.score_text("abc")
    assert (score.score, float(score), score.token_count) == (sum(log_probabilities("abc")),) * 2 + (3,)
    assert (score.token_ids.tolist(), score.token_ids.dtype) == ([97, 98, 99], np.int32)
    assert (score.log_probabilities.tolist(), score.log_probabilities.dtype) == (log_probabilities("abc"), np.float32)
    assert score.perplexity == pytest.approx(math.exp(98 / 128))
    one, none = client.score_text(["abc", ""])
    assert (one.score, none.score, none.token_count, math.isnan(none.perplexity)) == (score.score, 0, 0, True)


def test_encode_sparse(server: FakeServer, client: Any) -> None:
    vector = client.encode_sparse("abca")
    assert (vector.token_ids.tolist(), vector.token_ids.dtype) == ([97, 98, 99], np.int32)
    assert (vector.weights.tolist(), vector.weights.dtype) == ([0.5, 0.25, 0.25], np.float32)
    assert (len(vector), vector.tokens) == (3, ())
    some, none = client.encode_sparse(["cax", ""], tokens=True, top_k=2)
    assert (some.tokens, none.tokens, len(none)) == (("a", "c"), (), 0)
    assert (vector @ some, some @ vector, vector @ none) == (0.5 * 0.25 + 0.25 * 0.25,) * 2 + (0.0,)
    assert client.encode_sparse("a", prompt="b").token_ids.tolist() == [97, 98]
    client.encode_sparse("a", prompt_name="query")
    assert seen_options(server).prompt_name == "query"
    with pytest.raises(ValueError, match="prompt and prompt_name exclude each other"):
        client.encode_sparse("a", prompt="b", prompt_name="query")
    with pytest.raises(ValueError, match="top_k must be at least 1"):
        client.encode_sparse("a", top_k=0)


def test_next_sentence(client: Any) -> None:
    assert (
        client.next_sentence("one", "two") == client.next_sentence(("one", "two")) == next_probability("pair:one|two")
    )
    pairs: list[Any] = [("one", "two"), ("three", "four"), [101, 5, 102]]
    keys = ["pair:one|two", "pair:three|four", "ids:101,5,102"]
    assert client.next_sentence(pairs) == list(map(next_probability, keys))
    assert client.next_sentence([]) == []


def test_classify(server: FakeServer, client: Any) -> None:
    labels = client.classify("hello")
    assert labels == [
        Label(LABELS[number], score, number) for number, score in zip(labels_of("text:hello"), falling(3), strict=True)
    ]
    assert client.classify("hello", top_k=1) == labels[:1]
    assert client.classify(["hello"]) == [labels]
    assert client.classify("hello", function="none")[0].score == 4.0
    pair = client.classify(("a premise", "a hypothesis"))
    assert pair == client.classify([("a premise", "a hypothesis")])[0]
    assert [label.label_id for label in pair] == labels_of("pair:a premise|a hypothesis")


def test_zero_shot(server: FakeServer, client: Any) -> None:
    labels = client.zero_shot("text", ["sport", "weather", "art"], template="About {}.", multi_label=True)
    assert labels == [Label("sport", 0.5, 0), Label("weather", 0.25, 1), Label("art", 0.125, 2)]
    seen = seen_options(server)
    assert (list(seen.labels), seen.hypothesis_template, seen.multi_label) == (
        ["sport", "weather", "art"],
        "About {}.",
        True,
    )
    assert client.zero_shot(["text"], ("sport", "weather", "art")) == [labels]


def test_rerank(client: Any) -> None:
    documents = ["b", "d", "", "z", "d"]
    ranked = client.rerank("query", documents)
    assert ranked == [Ranked(index, relevance(documents[index]), documents[index]) for index in (3, 1, 4, 0, 2)]
    assert client.rerank("query", iter(documents), top_k=3) == ranked[:3]
    assert client.rerank("query", []) == []


def test_rerank_of_more_documents_than_a_message_takes(server: FakeServer, client: Any) -> None:
    documents = [chr(97 + index % 26) * (index % 7) for index in range(1000)]
    order = sorted(range(1000), key=lambda index: -relevance(documents[index]))
    ranked = client.rerank("query", documents)
    assert server.seen.rpcs["RerankTexts"] > 1
    assert [(each.index, each.score) for each in ranked] == [(index, relevance(documents[index])) for index in order]
    assert client.rerank("query", documents, top_k=10) == ranked[:10]


def test_entities(client: Any) -> None:
    text = "so Angela met Olaf"
    entities = client.entities(text)
    assert entities == [Entity("ENT", 0.5, "angela", 3, 9, None), Entity("ENT", 0.25, "olaf", 14, 18, None)]
    assert [text[entity.start : entity.end] for entity in entities] == ["Angela", "Olaf"]
    assert client.entities([text, ["so", "Angela"], "none"]) == [entities, entities[:1], []]
    assert client.entities(text, aggregation="none")[0] == Entity("B-ENT", 0.5, "angela", 3, 9, 2)
    assert [each.label for each in client.entities(text, ignored_labels=[])] == ["O", "ENT", "O", "ENT"]
    assert [each.label for each in client.entities(text, ignored_labels=["ENT"])] == ["O", "O"]


def test_entities_of_token_ids_have_no_offsets(client: Any) -> None:
    (entities,) = client.entities([[5, 6]], ignored_labels=[])
    assert [(each.start, each.end) for each in entities] == [(-1, -1)]


def test_answer(client: Any) -> None:
    best = client.answer("Who?", "Olaf did")
    assert best == Answer("Olaf", 0.5, 0, 4)
    assert client.answer(("Who?", "Olaf did")) == best
    assert client.answer([("Who?", "Olaf did"), ("What?", "a b")]) == [best, Answer("a", 0.5, 0, 1)]
    several = [best, Answer("did", 0.25, 5, 8)]
    assert client.answer("Who?", "Olaf did", top_k=5) == several
    assert client.answer("Who?", "Olaf did", top_k=1) == [best]
    assert client.answer([("Who?", "Olaf did")], top_k=2) == [several]
    (no_answer,) = client.answer("Who?", "", top_k=1, allow_no_answer=True)
    assert no_answer == Answer(*answers_to("pair:Who?|", tasks.AnswerOptions(allow_no_answer=True, top_k=1))[0])


def test_no_answer_at_all(client: Any) -> None:
    assert client.answer("Who?", "") == Answer("", 0.0, 0, 0)
    assert client.answer("Who?", "", top_k=3) == []


def test_choose(client: Any) -> None:
    assert client.choose("The fox", ["jumps", "sleeps", "sings"]) == [0.5, 0.25, 0.25]
    assert client.choose(("The fox", ["jumps"])) == [1.0]
    questions = [("a", ["b"] * count) for count in (1, 4, 2)]
    assert client.choose(questions) == [probabilities_of("choices:a" + "|b" * count) for count in (1, 4, 2)]
    assert client.choose([]) == []


@tasks_by_name
def test_long_lists_are_cut_and_keep_their_order(server: FakeServer, client: Any, name: str) -> None:
    (one,) = CALLS[name](client, 1)
    many = CALLS[name](client, 500)
    assert server.seen.rpcs.total() > 3
    if name == "rerank":
        assert [each.index for each in many] == list(range(500))
    elif name == "score_text":
        assert {each.score for each in many} == {one.score}
    elif name == "encode_sparse":
        assert {tuple(each.token_ids) for each in many} == {tuple(one.token_ids)}
    else:
        assert many == [one] * 500


def test_mixed_kinds_keep_their_order(client: Any) -> None:
    texts: list[Any] = [("a", "b" * (index % 5)) if index % 3 else "t" * (index % 7) for index in range(400)]
    keys = ["pair:" + "|".join(text) if isinstance(text, tuple) else f"text:{text}" for text in texts]
    assert [[label.label_id for label in labels] for labels in client.classify(texts)] == [
        labels_of(key) for key in keys
    ]


def test_messages_are_smaller_where_a_text_is_much_work(server: FakeServer, client: Any) -> None:
    client.choose([("p", ["c"] * 60)] * 5)
    assert server.seen.rpcs["ChooseAnswers"] == 5
    client.choose([("p", ["c"] * 30)] * 5)
    assert server.seen.rpcs["ChooseAnswers"] == 5 + 3
    client.zero_shot(["t"] * 8, [str(number) for number in range(16)])
    assert server.seen.rpcs["ClassifyZeroShot"] == 2
    client.score_text(["t"] * 8)
    assert server.seen.rpcs["ScoreTexts"] == 4
    client.fill_mask(["[MASK]"] * 8, top_k=1000)
    assert server.seen.rpcs["FillMasks"] == 8


@pytest.mark.parametrize("name", FAILING)
def test_errors_have_the_callers_own_indexes(client: Any, name: str) -> None:
    call, path = FAILING[name]
    with pytest.raises(InvalidArgument, match=r"\[333\] is bad") as caught:
        call(client, ["good"] * 333 + ["bad"] + ["good"] * 10)
    assert [field.path for field in caught.value.fields] == [f"{path}[333]"]


@pytest.mark.parametrize("name", FAILING)
def test_texts_that_are_not_unicode(client: Any, name: str) -> None:
    call, path = FAILING[name]
    with pytest.raises(InvalidArgument, match="is not valid Unicode") as caught:
        call(client, ["good", "\ud800"])
    assert caught.value.reason == "INVALID_TEXT"
    assert caught.value.fields[0].path in (f"{path}[1]", f"{path}.pairs[1]")


def test_what_the_server_refuses(client: Any) -> None:
    with pytest.raises(InvalidArgument) as caught:
        client.fill_mask(["[MASK]", "no mask"])
    assert (caught.value.reason, caught.value.fields[0].path) == ("INVALID_MASK", "inputs.texts[1]")
    with pytest.raises(InvalidArgument) as caught:
        client.choose([("a", ["b"])] * 400 + [("c", [])])
    assert (caught.value.reason, caught.value.fields[0].path) == ("INVALID_EMPTY_LIST", "inputs.choice_counts[400]")


def test_a_head_that_is_not_there(server: FakeServer, client: Any) -> None:
    server.does.failures.append(status(Code.FAILED_PRECONDITION, "it has fill_mask", "HEAD_NOT_AVAILABLE"))
    with pytest.raises(sdk.FailedPrecondition, match="it has fill_mask") as caught:
        client.classify("a")
    assert caught.value.reason == "HEAD_NOT_AVAILABLE"


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (TypeError, "a pair or two texts", lambda c: c.fill_mask(("[MASK]", "b"))),
        (TypeError, r"inputs.word_lists\[1\]: next_sentence takes pairs", lambda c: c.next_sentence([("a", ""), [""]])),
        (TypeError, r"inputs.texts\[0\]: answer takes pairs", lambda c: c.answer(["a"])),
        (TypeError, r"inputs.pairs\[0\]: entities takes .* not pairs", lambda c: c.entities([("a", "b")])),
        (TypeError, r"inputs.token_ids\[0\]: zero_shot takes whole texts", lambda c: c.zero_shot([[1]], ["a"])),
        (TypeError, "as two arguments or as a tuple", lambda c: c.next_sentence("a")),
        (TypeError, "as two arguments or as a tuple", lambda c: c.answer(5)),
        (TypeError, "two arguments must be two str", lambda c: c.answer("a", ["b"])),
        (TypeError, "as two arguments or as a tuple", lambda c: c.choose("a")),
        (TypeError, r"inputs.prompts\[0\]: choices must be a list of str", lambda c: c.choose("a", "b")),
        (TypeError, r"inputs.prompts\[0\]: choices must be a list of str", lambda c: c.choose([("a", [1])])),
        (TypeError, r"inputs.prompts\[0\]: a question to choose from is", lambda c: c.choose([["a", "b"]])),
        (TypeError, "documents must be a list", lambda c: c.rerank("a", "b")),
        (TypeError, r"documents\[1\]: a document is a str", lambda c: c.rerank("a", ["b", 1])),
        (TypeError, "query must be a str", lambda c: c.rerank(1, ["a"])),
        (TypeError, "labels must be a list of str", lambda c: c.zero_shot("a", "b,c")),
        (ValueError, "labels is empty", lambda c: c.zero_shot("a", [])),
        (TypeError, "targets must be a list of str or int", lambda c: c.fill_mask("[MASK]", targets="man")),
        (ValueError, "targets is empty", lambda c: c.fill_mask("[MASK]", targets=[])),
        (TypeError, "targets must be a list of str or int", lambda c: c.fill_mask("[MASK]", targets=np.array([3.0]))),
        (TypeError, "targets must be a whole number, not True", lambda c: c.fill_mask("[MASK]", targets=[True])),
        (TypeError, "ignored_labels must be a list", lambda c: c.entities("a", ignored_labels="O")),
        (TypeError, "labels must be a list of str", lambda c: c.entities("a", labels="person")),
        (ValueError, "aggregation must be one of 'none', 'simple'", lambda c: c.entities("a", aggregation="x")),
        (ValueError, "stride goes with windows", lambda c: c.entities("a", stride=3)),
        (ValueError, "stride goes with windows", lambda c: c.entities("a", stride=0)),
        (ValueError, "function must be one of 'softmax'", lambda c: c.classify("a", function="tanh")),
        (ValueError, "top_k must be at least 1", lambda c: c.classify("a", top_k=0)),
        (ValueError, "max_answer_tokens must be at least 1", lambda c: c.answer("a", "b", max_answer_tokens=0)),
        (ValueError, "max_length must be at least 1", lambda c: c.answer("a", "b", max_length=0)),
        (ValueError, "priority must be one of", lambda c: c.classify("a", priority="high")),
        (TypeError, "unexpected keyword argument 'topk'", lambda c: c.classify("a", topk=3)),
    ],
)  # fmt: skip
def test_misuse(server: FakeServer, client: Any, error: type[Exception], message: str, call: Any) -> None:
    with pytest.raises(error, match=message):
        call(client)
    assert not server.seen.rpcs


@tasks_by_name
def test_answers_that_make_no_sense(server: FakeServer, client: Any, name: str) -> None:
    server.does.bad_answer = True
    with pytest.raises(sdk.Internal, match="unexpected answer") as caught:
        CALLS[name](client, 2)
    assert caught.value.reason == "UNEXPECTED_RESPONSE"


@tasks_by_name
def test_reports_and_timeouts(server: FakeServer, client: Any, name: str) -> None:
    reports: list[Report] = []
    CALLS[name](client, 300, report=reports.append, timeout=300, model="tiny")
    assert len(reports) == server.seen.rpcs.total() - server.seen.rpcs["GetModel"] > 1
    assert sum(report.usage.texts for report in reports) == 300
    assert {report.timings.total for report in reports} == {2.0}
    assert len({report.options for report in reports}) == 1
    assert 200 < (server.seen.deadlines[-1] or 0) < 301
    with pytest.raises(sdk.DeadlineExceeded):
        CALLS[name](client, 1, timeout=1e-6)


def test_options_in_effect(client: Any) -> None:
    reports: list[Any] = []
    client.fill_mask("[MASK]", targets=["a", 3], report=reports.append, **COMMON)
    done = reports[-1].options
    assert (done.model, done.truncation, done.truncation_side, done.max_length) == ("tiny", "refuse", "left", 9)
    assert (done.priority, done.top_k, done.targets, done.sequences) == ("bulk", 5, ("a", 3), True)
    client.zero_shot("a", ["x", "y"], report=reports.append)
    done = reports[-1].options
    assert (done.labels, done.template, done.truncation) == (("x", "y"), "This example is {}.", "longest_first")
    client.entities("a", ignored_labels=["O", "ENT"], windows=True, stride=4, report=reports.append)
    done = reports[-1].options
    assert (done.aggregation, done.ignored_labels, done.windows, done.stride) == ("simple", ("O", "ENT"), True, 4)
    assert done.offset_unit == "code_points"
    client.entities("a", labels=["x", "y"], threshold=0.25, nested=True, report=reports.append)
    done = reports[-1].options
    assert (done.labels, done.threshold, done.nested, done.multi_label) == (("x", "y"), 0.25, True, False)
    client.answer("a", "b", report=reports.append)
    done = reports[-1].options
    assert (done.top_k, done.max_length, done.stride, done.max_answer_tokens, done.truncation) == (1, 384, 128, 15, "")
    client.classify("a", report=reports.append)
    assert (reports[-1].options.function, reports[-1].options.top_k) == ("softmax", 0)


def test_options_reach_the_server(server: FakeServer, client: Any) -> None:
    client.rerank("q", ["a"], function="sigmoid", label="yes", top_k=3, **COMMON)
    seen = seen_options(server)
    assert (seen.function, seen.label, seen.top_k) == (tasks.SCORE_FUNCTION_SIGMOID, "yes", 3)
    assert (seen.model, seen.truncation.max_length, seen.priority) == ("tiny", 9, types.PRIORITY_BULK)
    assert seen.truncation.strategy == types.TRUNCATION_STRATEGY_REFUSE
    client.entities("a", aggregation="max", ignored_labels=[], offset_unit="utf8_bytes")
    seen = seen_options(server)
    assert (seen.aggregation, seen.keep_all_labels) == (tasks.AGGREGATION_STRATEGY_MAX, True)
    assert (seen.offset_unit, seen.HasField("truncation")) == (tokenization.OFFSET_UNIT_UTF8_BYTES, False)
    assert (list(seen.labels), seen.HasField("threshold")) == ([], False)
    client.entities("a", labels=("x", "y"), threshold=0.25, nested=True, multi_label=True)
    seen = seen_options(server)
    assert (list(seen.labels), seen.threshold, seen.nested, seen.multi_label) == (["x", "y"], 0.25, True, True)
    assert seen.aggregation == tasks.AGGREGATION_STRATEGY_UNSPECIFIED
    client.answer(
        "a", "b", max_length=50, stride=9, max_answer_tokens=4, allow_no_answer=True, allow_partial_words=True
    )
    seen = seen_options(server)
    assert (seen.max_length, seen.stride, seen.max_answer_tokens, seen.top_k) == (50, 9, 4, 0)
    assert (seen.allow_no_answer, seen.allow_partial_words) == (True, True)


def test_a_stride_of_0_is_asked_for(server: FakeServer, client: Any) -> None:
    for call in (partial(client.entities, "a", windows=True), partial(client.answer, "a", "b")):
        for given, asked in (({"stride": 0}, True), ({}, False), ({"stride": None}, False)):
            call(**given)
            assert (seen_options(server).HasField("stride"), seen_options(server).stride) == (asked, 0)
