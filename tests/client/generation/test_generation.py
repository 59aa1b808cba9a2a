"""Both clients against a fake server: generation and summaries, by unary calls or by a stream for many prompts."""

from __future__ import annotations

from typing import Any, get_type_hints

import numpy as np
import pytest

import bertstream.client as sdk
from bertstream.client import EffectiveGenerationOptions, GenerateOptions, Generation, InvalidArgument, Report, Usage
from bertstream.client._generation.operations import FEW_PROMPTS
from bertstream.v1 import generation_pb2 as generation
from bertstream.v1 import models_pb2 as models
from bertstream.v1 import types_pb2 as types
from tests.client.fake_server import Code, FakeServer, status

MANY = [f"t{number}" for number in range(5 * FEW_PROMPTS)]


def words(prompt: str, sequence: int = 0) -> str:
    return f"text:{prompt}>{sequence} w1 w2"


def test_one_prompt(client: Any) -> None:
    answer = client.generate("ab")
    assert answer == Generation(words("ab"), (0, 1, 2), "length", -0.75, None, 7)
    assert str(answer) == answer.text


def test_lists_give_lists(server: FakeServer, client: Any) -> None:
    assert [answer.text for answer in client.generate(["a", "b"])] == [words("a"), words("b")]
    assert [answer.text for answer in client.generate(["a"])] == [words("a")]
    several = client.generate("a", num_return_sequences=2)
    assert [answer.text for answer in several] == [words("a"), words("a", 1)]
    assert [[answer.text for answer in each] for each in client.generate(["a", "b"], num_return_sequences=2)] == [
        [words("a"), words("a", 1)],
        [words("b"), words("b", 1)],
    ]
    assert client.generate("a", num_return_sequences=1).text == words("a")
    assert client.generate([]) == []
    assert server.seen.rpcs["GenerateTexts"] == 5


def test_every_kind_of_prompt(client: Any) -> None:
    prompts = ["é", ("a", "b"), ["c", "d"], [5, 6], np.array([7])]
    keys = ["text:é", "pair:a|b", "words:c|d", "ids:5,6", "ids:7"]
    assert [answer.text.partition(">")[0] for answer in client.generate(prompts)] == keys
    (tokens,) = client.tokenize("ab")
    ids = ",".join(f"{token}/0" for token in tokens.token_ids)  # with their type ids
    assert client.generate(tokens).text.partition(">")[0] == f"ids:{ids}"


def test_why_it_ended(client: Any) -> None:
    given = {"max_new_tokens": 5, "token_scores": True}
    ended = client.generate("a", eos_token_ids=2, **given)
    assert (ended.finish_reason, ended.token_ids) == ("end_of_sequence", (0, 1, 2))
    assert ended.token_scores == (-0.125, -0.25, -0.375)
    assert ended.score == sum(ended.token_scores)
    stopped = client.generate("a", stop_strings=["2", "w3"], **given)
    assert (stopped.finish_reason, stopped.text) == ("stop_string", "text:a>0 w1 w")


@pytest.mark.parametrize("count", [3, len(MANY)])
def test_few_prompts_are_one_call_and_many_a_stream(server: FakeServer, client: Any, count: int) -> None:
    server.does.reverse, server.does.hold_first = True, 20
    answers = client.generate(MANY[:count], max_new_tokens=1, num_return_sequences=2)
    assert [[answer.text for answer in each] for each in answers] == [
        [f"text:{prompt}>{sequence}" for sequence in (0, 1)] for prompt in MANY[:count]
    ]
    few = count < FEW_PROMPTS
    assert (server.seen.rpcs["GenerateTexts"], server.seen.rpcs["StreamGeneratedTexts"]) == (int(few), int(not few))
    options = server.seen.requests[-1].options if few else server.seen.task
    assert options.priority == types.PRIORITY_INTERACTIVE


def test_it_takes_as_long_as_it_takes(server: FakeServer, connect: Any) -> None:
    client = connect(server.address, timeout=70)
    client.generate("a")
    assert (server.seen.deadlines[-1] or 1e9) > 1e8
    client.generate("a", timeout=300)
    assert 200 < (server.seen.deadlines[-1] or 0) < 301


def test_documented_options_are_the_real_ones() -> None:
    documented = {*get_type_hints(GenerateOptions), "num_return_sequences"}
    fields = {field.name for field in generation.GenerationOptions.DESCRIPTOR.fields}
    assert documented - {"max_length", "truncation_side"} == fields
    assert {**OPTIONS, **TRUNCATION, "model": "", "early_stopping": ""}.keys() == documented


OPTIONS: dict[str, Any] = {
    "max_new_tokens": 4, "min_new_tokens": 2, "num_beams": np.int64(5), "num_return_sequences": 2, "top_k": 0,
    "seed": 2**64 - 1, "no_repeat_ngram_size": 3, "length_penalty": 0.5, "temperature": 2, "top_p": np.float32(0.75),
    "repetition_penalty": 1.5, "bad_words": ["x", "yé"], "stop_strings": ("z",), "eos_token_ids": [9, 8],
    "do_sample": True, "add_special_tokens": False, "keep_special_tokens": True, "token_scores": True,
}  # fmt: skip
TRUNCATION = {"max_length": 20, "truncation": False, "truncation_side": "right", "priority": "bulk"}


def test_every_option_reaches_the_server(server: FakeServer, client: Any) -> None:
    client.generate("a", model="tiny", early_stopping="never", **OPTIONS, **TRUNCATION)
    options = server.seen.requests[-1].options
    sent = {name: getattr(options, name) for name in OPTIONS}
    assert {name: list(value) if name in ("bad_words", "stop_strings", "eos_token_ids") else value
            for name, value in sent.items()} == {**OPTIONS, "stop_strings": ["z"]}  # fmt: skip
    assert (options.model, options.early_stopping) == ("tiny", generation.EARLY_STOPPING_NEVER)
    assert (options.truncation.max_length, options.truncation.side) == (20, types.TRUNCATION_SIDE_RIGHT)
    assert (options.truncation.strategy, options.priority) == (
        types.TRUNCATION_STRATEGY_REFUSE,
        types.PRIORITY_BULK,
    )


def test_what_is_left_out_is_not_sent(server: FakeServer, client: Any) -> None:
    client.generate("a", num_beams=None, bad_words=None, eos_token_ids=(), early_stopping=None)
    sent = {field.name for field, _ in server.seen.requests[-1].options.ListFields()}
    assert sent == {"num_return_sequences", "priority"}
    for given, wanted in ((True, generation.EARLY_STOPPING_FIRST), (False, generation.EARLY_STOPPING_HEURISTIC)):
        client.generate("a", early_stopping=given)
        assert server.seen.requests[-1].options.early_stopping == wanted


MISUSE: list[tuple[type[Exception], str, dict[str, Any]]] = [
    (ValueError, "max_new_tokens must be at least 1", {"max_new_tokens": 0}),
    (ValueError, "min_new_tokens must be at least 0", {"min_new_tokens": -1}),
    (ValueError, "num_return_sequences must be at least 1", {"num_return_sequences": 0}),
    (ValueError, "seed must be at most 18446744073709551615", {"seed": 2**64}),
    (ValueError, "top_k must be at most 2147483647", {"top_k": 2**31}),
    (TypeError, "num_beams must be a whole number, not 2.0", {"num_beams": 2.0}),
    (TypeError, "num_beams must be a whole number, not True", {"num_beams": True}),
    (TypeError, "temperature must be a number, not 'hot'", {"temperature": "hot"}),
    (TypeError, r"stop_strings must be a list of str, not '\.'", {"stop_strings": "."}),
    (TypeError, r"bad_words must be a list of str, not \[1\]", {"bad_words": [1]}),
    (ValueError, "eos_token_ids must be at least 0", {"eos_token_ids": -1}),
    (TypeError, "eos_token_ids must be a whole number", {"eos_token_ids": ["x"]}),
    (ValueError, "early_stopping must be True, False or 'never', not 1", {"early_stopping": 1}),
    (ValueError, "priority must be one of", {"priority": "high"}),
    (ValueError, "max_length must be at least 1", {"max_length": 0}),
    (TypeError, "unexpected keyword argument 'beams'", {"beams": 1}),
    (InvalidArgument, r"options.bad_words\[1\] is not valid Unicode", {"bad_words": ["a", "\ud800"]}),
]


@pytest.mark.parametrize(("kind", "message", "given"), MISUSE, ids=lambda value: str(value)[:40])
def test_misuse_shows_at_once(server: FakeServer, client: Any, kind: Any, message: str, given: Any) -> None:
    plain = getattr(client, "client", client)
    for call in (plain.stream_generate, plain.generate_stream):
        with pytest.raises(kind, match=message):
            call(["a"], **given)
    with pytest.raises(kind, match=message):
        client.generate("a", **given)
    assert not server.seen.requests


def test_prompts_that_are_none(client: Any) -> None:
    with pytest.raises(TypeError, match=r"inputs.texts\[1\]: a text is"):
        client.generate(["a", 1])
    with pytest.raises(TypeError, match="a pair or two texts"):
        client.generate(("a", "b"))


def test_errors_have_the_callers_own_indexes(server: FakeServer, client: Any) -> None:
    with pytest.raises(InvalidArgument, match="is bad") as caught:
        client.generate([["a"], [1], "b", "bad"])
    assert caught.value.fields == [("inputs.texts[3]", "bad")]
    with pytest.raises(InvalidArgument, match="item 30: a bad text") as caught:
        client.generate([*MANY[:30], "bad"])
    assert (caught.value.item_id, caught.value.reason) == (30, "INVALID_TEXT")
    with pytest.raises(InvalidArgument, match=r"inputs.texts\[2\] is not valid Unicode"):
        client.generate(["a", "b", "\ud800"])


def test_options_that_the_server_refuses(server: FakeServer, client: Any) -> None:
    refusal = status(Code.INVALID_ARGUMENT, "no", "INVALID_RANGE", (("options.temperature", "no"),))
    server.does.failures.append(refusal)
    with pytest.raises(InvalidArgument) as caught:
        client.generate("a", temperature=0.0, do_sample=True)
    assert (caught.value.reason, caught.value.fields) == ("INVALID_RANGE", [("options.temperature", "no")])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("output", "answers to 1 of 2 prompts"),
        ("answer", "0 answers where 1 were asked for"),
        ("score", "4 scores of 3 tokens"),
    ],
)
def test_answers_that_make_no_sense(server: FakeServer, client: Any, how: str, message: str) -> None:
    server.does.broken_part = how
    with pytest.raises(sdk.Internal, match=message):
        client.generate(["a", "b"], token_scores=True)


@pytest.mark.parametrize("count", [2, len(MANY)])
def test_reports(server: FakeServer, client: Any, count: int) -> None:
    reports: list[Report] = []
    given = {"num_beams": 3, "temperature": 0.7, "early_stopping": True, "seed": 4, "eos_token_ids": [77]}
    client.generate(MANY[:count], report=reports.append, bad_words=["x"], **given)
    tokens = sum(len(f"text:{prompt}") for prompt in MANY[:count])
    usages = [report.usage for report in reports]
    assert sum(usage.texts for usage in usages) == count
    assert sum(usage.generated_tokens for usage in usages) == 3 * count
    assert sum(usage.tokens for usage in usages) == tokens + 3 * count
    assert {report.timings for report in reports} == {sdk.Timings(None, None, 0.5, 2.0)}
    assert {report.options for report in reports} == {
        EffectiveGenerationOptions(
            "tiny", None, "longest_first", "left", 32, "", priority="interactive", max_new_tokens=3, num_beams=3,
            num_return_sequences=1, early_stopping=True, temperature=0.7, seed=4, bad_words=("x",), eos_token_ids=(77,),
        )
    }  # fmt: skip


def test_the_description_of_a_model_that_generates(server: FakeServer, client: Any) -> None:
    assert client.model().generation is None
    described = models.GenerationDescription(vocabulary_size=9, max_tokens=64, eos_token_ids=[2, 3], cache_tokens=99)
    server.does.model.generation.CopyFrom(described)
    assert client.model().generation == sdk.GenerationDescription(9, 64, (2, 3), 99)


@pytest.fixture
def summarizer(server: FakeServer) -> None:
    server.does.model.heads.append("sequence_to_sequence")


@pytest.mark.usefixtures("summarizer")
def test_summaries_are_texts(server: FakeServer, client: Any) -> None:
    assert client.summarize("a") == words("a")
    assert client.summarize(["a", "b"], num_beams=4) == [words("a"), words("b")]
    assert server.seen.requests[-1].options.num_beams == 4
    assert client.summarize(iter(MANY), max_new_tokens=1) == [f"text:{text}>0" for text in MANY]
    assert server.seen.rpcs["StreamGeneratedTexts"] == 1
    assert server.seen.rpcs["GetModel"] <= 2  # once to check the head, and perhaps once for the stream
    assert client.summarize([]) == []


@pytest.mark.usefixtures("summarizer")
def test_a_summary_reports_what_was_cut(client: Any) -> None:
    reports: list[Report] = []
    client.summarize("a" * 30, report=reports.append)
    assert [report.usage for report in reports] == [Usage(1, 35 + 3, 1, 3)]


@pytest.mark.parametrize("texts", ["a", [], MANY])
def test_a_model_that_cannot_summarize(server: FakeServer, client: Any, texts: Any) -> None:
    with pytest.raises(sdk.FailedPrecondition, match=r"'tiny' cannot summarize: .*: fill_mask$") as caught:
        client.summarize(texts)
    assert caught.value.reason == "HEAD_NOT_AVAILABLE"
    assert caught.value.metadata == {"head": "sequence_to_sequence", "heads": "fill_mask"}
    assert server.seen.rpcs.keys() == {"GetModel"}


def test_a_model_that_was_replaced_meanwhile(server: FakeServer, client: Any) -> None:
    with pytest.raises(sdk.FailedPrecondition):
        client.summarize("a")
    server.does.model.heads.append("sequence_to_sequence")
    assert client.summarize("a") == words("a")


@pytest.mark.parametrize("name", ["num_return_sequences", "token_scores", "nonsense"])
def test_options_that_summaries_have_not(client: Any, name: str) -> None:
    with pytest.raises(TypeError, match=rf"summarize\(\) got an unexpected keyword argument '{name}'"):
        client.summarize("a", **{name: 2})
