from __future__ import annotations

import math
from typing import Any, cast

import pytest

from bertstream.server.core.errors import RequestError
from bertstream.server.core.tokenization import Truncation
from bertstream.server.protocols.bertstream_v1.validation.generation import (
    MAX_CHARACTERS,
    AskedGeneration,
    parse_generation,
)
from bertstream.v1 import generation_pb2 as g
from bertstream.v1 import types_pb2 as t
from bertstream.workers.contract import BULK, INTERACTIVE, GenerationOptions
from bertstream.workers.programs.description import GenerationDescription, ModelDescription
from tests.server.protocols.bertstream_v1.validation.support import description, refused


def decoder(defaults: dict[str, Any] | None = None, **changes: Any) -> ModelDescription:
    own = GenerationDescription(407, 512, (3,), 0, -1, defaults or {})
    return description(**({"heads": ("causal_lm",), "generation": own, "default_max_length": 512} | changes))


def rewriter(defaults: dict[str, Any] | None = None) -> ModelDescription:
    own = GenerationDescription(411, 300, (3,), 0, 2, defaults or {})
    return description(heads=("sequence_to_sequence",), generation=own)


def parse(model: ModelDescription | None = None, *, pieces: bool = False, **options: Any) -> AskedGeneration:
    return parse_generation(g.GenerationOptions(**options), "mine", model or decoder(), INTERACTIVE, pieces=pieces)


def test_with_nothing_said_it_is_as_in_transformers() -> None:
    plan = parse()
    assert plan.options == GenerationOptions(max_new_tokens=1, eos_token_ids=(3,))
    assert (plan.lengths.max_new(10), plan.lengths.min_new(10)) == (20, 0)
    assert plan.truncation == Truncation("longest_first", 492, "left")
    assert (plan.add_special_tokens, plan.seed, plan.stop_strings, plan.bad_words) == (None, None, (), ())
    assert (plan.priority, plan.copies) == (INTERACTIVE, 1)
    effective = plan.effective
    assert effective.model == "mine"
    assert (effective.max_new_tokens, effective.min_new_tokens, effective.num_beams) == (20, 0, 1)
    assert (effective.do_sample, effective.HasField("do_sample"), effective.HasField("temperature")) == (
        False,
        True,
        False,
    )
    assert effective.priority == t.PRIORITY_INTERACTIVE
    assert list(effective.eos_token_ids) == [3]


def test_encoder_decoders_have_lengths_of_their_own() -> None:
    assert parse(rewriter()).lengths.max_new(1) == 20
    assert parse(rewriter({"max_length": 142})).lengths.max_new(1) == 141  # the start token counts
    assert parse(rewriter({"max_length": 142, "max_new_tokens": 60})).lengths.max_new(1) == 60
    assert parse(rewriter({"min_length": 56, "max_length": 142})).lengths.min_new(1) == 55
    assert parse(rewriter()).truncation == Truncation("longest_first", 128, "right")


DEFAULTS = {
    "max_new_tokens": 33,
    "min_new_tokens": 4,
    "do_sample": True,
    "temperature": 0.5,
    "top_k": 7,
    "top_p": 0.9,
    "repetition_penalty": 1.3,
    "no_repeat_ngram_size": 3,
    "num_return_sequences": 2,
}


def test_the_checkpoints_own_come_next() -> None:
    plan = parse(decoder(DEFAULTS))
    assert plan.options == GenerationOptions(
        max_new_tokens=1,
        num_return_sequences=2,
        do_sample=True,
        temperature=0.5,
        top_k=7,
        top_p=0.9,
        repetition_penalty=1.3,
        no_repeat_ngram_size=3,
        eos_token_ids=(3,),
    )
    assert (plan.lengths.max_new(1), plan.lengths.min_new(1), plan.copies) == (33, 4, 2)
    beams = parse(decoder({"num_beams": 4, "length_penalty": 2.0, "early_stopping": True})).options
    assert (beams.num_beams, beams.length_penalty, beams.early_stopping) == (4, 2.0, "first")
    assert parse(decoder({"num_beams": 4, "early_stopping": "never"})).options.early_stopping == "never"
    assert parse(decoder({"num_beams": 99})).options.num_beams == 16


def test_what_is_asked_comes_first() -> None:
    plan = parse(
        decoder(DEFAULTS),
        max_new_tokens=10,
        min_new_tokens=1,
        do_sample=True,
        temperature=0.7,
        top_k=0,
        top_p=0.25,
        seed=(1 << 64) - 1,
        repetition_penalty=2.5,
        no_repeat_ngram_size=0,
        num_return_sequences=64,
        eos_token_ids=[5, 6, 5],
        keep_special_tokens=True,
        token_scores=True,
        stop_strings=["\n", "x", "\n"],
        bad_words=["cat"],
        add_special_tokens=False,
        priority=t.PRIORITY_BULK,
    )
    assert plan.options == GenerationOptions(
        max_new_tokens=1,
        num_return_sequences=64,
        do_sample=True,
        temperature=0.7,  # and not what 32 bits make of it
        top_p=0.25,
        repetition_penalty=2.5,
        eos_token_ids=(5, 6),
        stream=True,  # to find the stop strings
    )
    assert (plan.lengths.max_new(1), plan.lengths.min_new(1)) == (10, 1)
    assert plan.truncation.max_length == 502
    assert (plan.seed, plan.stop_strings, plan.bad_words) == ((1 << 64) - 1, ("\n", "x"), ("cat",))
    assert (plan.keep_special_tokens, plan.token_scores, plan.add_special_tokens) == (True, True, False)
    assert plan.priority == BULK


def test_a_beam_search() -> None:
    options = parse(
        num_beams=4, num_return_sequences=4, length_penalty=-0.5, early_stopping=g.EARLY_STOPPING_NEVER
    ).options
    assert (options.num_beams, options.num_return_sequences) == (4, 4)
    assert (options.length_penalty, options.early_stopping) == (-0.5, "never")
    assert parse(num_beams=2).options.early_stopping == "heuristic"


@pytest.mark.parametrize(
    ("asked", "beams", "samples"),
    [
        ({}, 4, False),  # both together are not done
        ({"do_sample": True}, 1, True),
        ({"do_sample": False}, 4, False),
        ({"num_beams": 2}, 2, False),
        ({"num_beams": 1}, 1, True),
        ({"stop_strings": ["."]}, 1, True),
    ],
)
def test_what_is_asked_wins_over_what_does_not_go_with_it(asked: dict[str, Any], beams: int, samples: bool) -> None:
    options = parse(decoder({"num_beams": 4, "do_sample": True}), **asked).options
    assert (options.num_beams, options.do_sample) == (beams, samples)


def test_pieces_are_never_of_a_beam_search() -> None:
    options = parse(decoder({"num_beams": 4}), pieces=True).options
    assert (options.num_beams, options.stream) == (1, True)


def test_how_prompts_are_cut() -> None:
    right = t.TruncationOptions(side=t.TRUNCATION_SIDE_RIGHT, strategy=t.TRUNCATION_STRATEGY_REFUSE, max_length=40)
    assert parse(truncation=right).truncation == Truncation("refuse", 40, "right")
    whole = t.TruncationOptions(max_length=512)
    assert parse(truncation=whole, max_new_tokens=100).truncation == Truncation("longest_first", 412, "left")
    assert parse(truncation=whole, max_new_tokens=511).truncation.max_length == 1
    assert parse(decoder({"max_length": 512}), truncation=whole).truncation.max_length == 492
    assert parse(decoder(default_max_length=64)).truncation.max_length == 64


@pytest.mark.parametrize(
    ("options", "reason", "field"),
    [
        ({"max_new_tokens": 0}, "INVALID_RANGE", "max_new_tokens"),
        ({"max_new_tokens": 512}, "INVALID_RANGE", "max_new_tokens"),
        ({"min_new_tokens": -1}, "INVALID_RANGE", "min_new_tokens"),
        ({"min_new_tokens": 21}, "INVALID_RANGE", "min_new_tokens"),
        ({"min_new_tokens": 6, "max_new_tokens": 5}, "INVALID_RANGE", "min_new_tokens"),
        ({"num_beams": 0}, "INVALID_RANGE", "num_beams"),
        ({"num_beams": 17}, "INVALID_RANGE", "num_beams"),
        ({"num_return_sequences": 0}, "INVALID_RANGE", "num_return_sequences"),
        ({"num_return_sequences": 2}, "INVALID_COMBINATION", "num_return_sequences"),
        ({"num_return_sequences": 3, "num_beams": 2}, "INVALID_RANGE", "num_return_sequences"),
        ({"num_return_sequences": 65, "do_sample": True}, "INVALID_RANGE", "num_return_sequences"),
        ({"num_beams": 2, "do_sample": True}, "INVALID_COMBINATION", "do_sample"),
        ({"num_beams": 2, "stop_strings": ["."]}, "INVALID_COMBINATION", "stop_strings"),
        ({"temperature": 0.5}, "INVALID_COMBINATION", "temperature"),
        ({"top_k": 5}, "INVALID_COMBINATION", "top_k"),
        ({"top_p": 0.5}, "INVALID_COMBINATION", "top_p"),
        ({"length_penalty": 2.0}, "INVALID_COMBINATION", "length_penalty"),
        ({"early_stopping": g.EARLY_STOPPING_FIRST}, "INVALID_COMBINATION", "early_stopping"),
        ({"early_stopping": 9, "num_beams": 2}, "INVALID_ENUM", "early_stopping"),
        ({"length_penalty": math.inf, "num_beams": 2}, "INVALID_RANGE", "length_penalty"),
        ({"do_sample": True, "temperature": 0.0}, "INVALID_RANGE", "temperature"),
        ({"do_sample": True, "temperature": math.nan}, "INVALID_RANGE", "temperature"),
        ({"do_sample": True, "top_k": -1}, "INVALID_RANGE", "top_k"),
        ({"do_sample": True, "top_p": 1.5}, "INVALID_RANGE", "top_p"),
        ({"do_sample": True, "top_p": -0.5}, "INVALID_RANGE", "top_p"),
        ({"repetition_penalty": 0.0}, "INVALID_RANGE", "repetition_penalty"),
        ({"repetition_penalty": -1.0}, "INVALID_RANGE", "repetition_penalty"),
        ({"no_repeat_ngram_size": -1}, "INVALID_RANGE", "no_repeat_ngram_size"),
        ({"eos_token_ids": [3, 407]}, "INVALID_TOKEN_ID", "eos_token_ids[1]"),
        ({"eos_token_ids": [-1]}, "INVALID_TOKEN_ID", "eos_token_ids[0]"),
        ({"eos_token_ids": [1] * 65}, "REQUEST_TOO_LARGE", "eos_token_ids"),
        ({"stop_strings": ["a", ""]}, "INVALID_EMPTY_TEXT", "stop_strings[1]"),
        ({"stop_strings": ["a"] * 17}, "REQUEST_TOO_LARGE", "stop_strings"),
        ({"stop_strings": ["a" * (MAX_CHARACTERS + 1)]}, "REQUEST_TOO_LARGE", "stop_strings[0]"),
        ({"bad_words": [""]}, "INVALID_EMPTY_TEXT", "bad_words[0]"),
        ({"bad_words": ["a"] * 1025}, "REQUEST_TOO_LARGE", "bad_words"),
        ({"priority": 7}, "INVALID_ENUM", "priority"),
        ({"truncation": t.TruncationOptions(side=cast(Any, 9))}, "INVALID_ENUM", "truncation.side"),
        ({"truncation": t.TruncationOptions(max_length=513)}, "INVALID_RANGE", "truncation.max_length"),
    ],
)
def test_what_is_refused(options: dict[str, Any], reason: str, field: str) -> None:
    with pytest.raises(RequestError) as raised:
        parse(**options)
    assert refused(raised) == ("INVALID_ARGUMENT", reason, f"options.{field}")


def test_a_beam_search_has_no_pieces() -> None:
    with pytest.raises(RequestError) as raised:
        parse(pieces=True, num_beams=2)
    assert refused(raised) == ("INVALID_ARGUMENT", "INVALID_COMBINATION", "options.num_beams")


def test_a_model_that_does_not_generate() -> None:
    with pytest.raises(RequestError) as raised:
        parse(description(heads=("fill_mask",)))
    assert refused(raised)[:2] == ("FAILED_PRECONDITION", "HEAD_NOT_AVAILABLE")
    assert raised.value.metadata["heads"] == "fill_mask"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"do_sample": True, "temperature": 0.7, "seed": 3, "stop_strings": ["."]},
        {"num_beams": 3, "early_stopping": g.EARLY_STOPPING_FIRST, "bad_words": ["a"], "num_return_sequences": 2},
        {"min_new_tokens": 3, "max_new_tokens": 100, "add_special_tokens": True, "keep_special_tokens": True},
    ],
)
@pytest.mark.parametrize("model", [decoder(), rewriter({"max_length": 142, "min_length": 10})], ids=["causal", "seq"])
def test_the_options_in_effect_have_the_same_effect(model: ModelDescription, options: dict[str, Any]) -> None:
    first = parse(model, **options)
    second = parse_generation(first.effective, "mine", model, INTERACTIVE)
    assert second.effective == first.effective
    assert second.options == first.options
    assert second.truncation == first.truncation
