"""Test for the same ids and scores as transformers' generate, on random models and random options."""

from __future__ import annotations

import random
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertLMHeadModel,
    BertModel,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    GenerationConfig,
)

from bertstream.workers.contract import EarlyStopping, GenerationOptions
from tests.support.generation import Bench, TransformersProgram, answers_of, make_generate

VOCABULARY = 40
EARLY_STOPPING: dict[EarlyStopping, Any] = {"heuristic": False, "first": True, "never": "never"}


def config(**values: Any) -> BertConfig:
    # Weights large enough for the tokens to depend on each other.
    return BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=64,
        initializer_range=0.6,
        **values,
    )


@lru_cache
def causal_model(seed: int) -> Any:
    torch.manual_seed(seed)
    model: Any = BertLMHeadModel(config(is_decoder=True))
    return model.eval()


@lru_cache
def encoder_decoder_model(seed: int) -> Any:
    torch.manual_seed(seed)
    decoder = config(is_decoder=True, add_cross_attention=True)
    both = EncoderDecoderConfig(encoder=config().to_dict(), decoder=decoder.to_dict())
    both.decoder_start_token_id, both.pad_token_id = 2, 0
    model: Any = EncoderDecoderModel(both, BertModel(config()), BertLMHeadModel(decoder))
    return model.eval()


def random_options(dice: random.Random) -> dict[str, Any]:
    """Return random values of all deterministic options, some of them switched off."""
    ends = tuple(dice.sample(range(3, VOCABULARY), dice.choice((0, 1, 1, 2, 6))))
    words = [tuple(dice.choices(range(VOCABULARY), k=dice.choice((1, 1, 2, 3)))) for _ in range(dice.choice((0, 20)))]
    longest = dice.choice((1, 4, 9, 14))
    return {
        "max_new_tokens": longest,
        "min_new_tokens": min(dice.choice((0, 0, 3)), longest),
        "repetition_penalty": dice.choice((1.0, 1.0, 1.3, 0.8)),
        "no_repeat_ngram_size": dice.choice((0, 0, 1, 2, 3)),
        "bad_words": tuple(words + [end for end in [ends[:1]] if end and dice.random() < 0.5]),
        "eos_token_ids": ends,
    }


def beam_options(dice: random.Random) -> dict[str, Any]:
    beams = dice.choice((2, 3, 5))
    return {
        **random_options(dice),
        "num_beams": beams,
        "num_return_sequences": dice.choice((1, beams)),
        "length_penalty": dice.choice((1.0, 0.0, -1.0, 0.5, 2.0)),
        "early_stopping": dice.choice(tuple(EARLY_STOPPING)),
    }


def expected(model: Any, ids: list[int], options: GenerationOptions) -> Any:
    """Return the result of generate, with the scores of all sequences and tokens."""
    make_settings: Any = GenerationConfig
    settings = make_settings(
        max_new_tokens=options.max_new_tokens,
        min_new_tokens=options.min_new_tokens or None,
        num_beams=options.num_beams,
        num_return_sequences=options.num_return_sequences,
        length_penalty=options.length_penalty,
        early_stopping=EARLY_STOPPING[options.early_stopping],
        repetition_penalty=options.repetition_penalty,
        no_repeat_ngram_size=options.no_repeat_ngram_size,
        bad_words_ids=[list(word) for word in options.bad_words] or None,
        eos_token_id=list(options.eos_token_ids) or None,
        pad_token_id=0,
        decoder_start_token_id=2,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
        output_logits=True,
    )
    model.generation_config = settings
    inputs = torch.tensor([ids])
    return model.generate(inputs, attention_mask=torch.ones_like(inputs), generation_config=settings)


def raw_scores(found: Any, tokens: list[int], beams: list[int]) -> list[float]:
    """Return the log-softmax of the model's own logits, before any rule."""
    steps = zip(found.logits, tokens, beams, strict=False)
    return [float(logits[beam].log_softmax(-1)[token]) for logits, token, beam in steps]


def inputs_of(dice: random.Random) -> list[int]:
    return [dice.randrange(3, VOCABULARY) for _ in range(dice.choice((1, 3, 8)))]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("encoder", [False, True], ids=["causal", "encoder_decoder"])
def test_greedy(tmp_path: Path, encoder: bool, seed: int) -> None:
    dice = random.Random(seed)
    model = encoder_decoder_model(seed % 4) if encoder else causal_model(seed % 4)
    work = make_generate(1, inputs_of(dice), **random_options(dice))
    found = expected(model, work.ids.tolist(), work.options)
    start = 1 if encoder else work.ids.size
    bench = Bench(tmp_path, TransformersProgram(model), encoder=encoder, vocabulary_size=VOCABULARY)
    (completed,) = bench.run(work)
    tokens = found.sequences[0, start:].tolist()
    assert answers_of(completed) == [tokens]
    scores = raw_scores(found, tokens, [0] * len(tokens))
    np.testing.assert_allclose(completed.token_scores, scores, atol=1e-4)
    np.testing.assert_allclose(completed.scores, [sum(scores)], rtol=1e-4)
    ended = tokens[-1] in work.options.eos_token_ids
    assert completed.reasons == ("end_of_sequence" if ended else "length",)


@pytest.mark.parametrize("seed", range(16))
@pytest.mark.parametrize("encoder", [False, True], ids=["causal", "encoder_decoder"])
def test_beam_search(tmp_path: Path, encoder: bool, seed: int) -> None:
    dice = random.Random(1000 + seed)
    model = encoder_decoder_model(seed % 4) if encoder else causal_model(seed % 4)
    work = make_generate(1, inputs_of(dice), **beam_options(dice))
    found = expected(model, work.ids.tolist(), work.options)
    start = 1 if encoder else work.ids.size
    bench = Bench(tmp_path, TransformersProgram(model), encoder=encoder, vocabulary_size=VOCABULARY)
    (completed,) = bench.run(work)
    beams = [[beam for beam in row.tolist() if beam >= 0] for row in found.beam_indices]
    tokens = [row[start : start + len(b)].tolist() for row, b in zip(found.sequences, beams, strict=True)]
    assert answers_of(completed) == tokens
    np.testing.assert_allclose(completed.scores, found.sequences_scores, rtol=1e-4, atol=1e-5)
    scores = [raw_scores(found, *each) for each in zip(tokens, beams, strict=True)]
    np.testing.assert_allclose(completed.token_scores, np.concatenate(scores), atol=1e-4)
    ends = work.options.eos_token_ids
    assert completed.reasons == tuple("end_of_sequence" if each[-1] in ends else "length" for each in tokens)


def test_all_of_them_at_once(tmp_path: Path) -> None:
    """One step computes sequences of every kind together, and each is as if it were alone."""
    dice = random.Random(7)
    model = causal_model(7)
    program = TransformersProgram(model)
    options = [random_options(dice) if number % 2 else beam_options(dice) for number in range(12)]
    works = [make_generate(number, inputs_of(dice), **each) for number, each in enumerate(options)]
    bench = Bench(tmp_path, program, vocabulary_size=VOCABULARY, max_sequences=30)
    together = [answers_of(completed) for completed in bench.run(*works)]
    assert max(count for name, count in program.calls if name == "step") > 12
    alone = [Bench(tmp_path, program, vocabulary_size=VOCABULARY).run(work)[0] for work in works]
    assert together == [answers_of(completed) for completed in alone]
    assert bench.generator.rows.used == 0
