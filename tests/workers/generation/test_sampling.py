from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers.generation.logits_process import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from bertstream.workers.contract import GenerationOptions
from bertstream.workers.generation import sampling
from bertstream.workers.generation.sampling import Odds, compact, divide, draw, keep_top_k, keep_top_p
from tests.support.generation import Bench, HistoryProgram, answers_of, make_generate

WAYS = [(1.0, 0, 1.0), (0.7, 0, 1.0), (1.5, 5, 1.0), (1.0, 0, 0.8), (0.5, 8, 0.6), (1.0, 1, 1.0), (2.0, 99, 0.01)]
DRAWS = 40_000


def some_scores(rows: int, vocabulary: int = 30) -> Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(3)) * 2


def odds_of(*ways: tuple[float, int, float]) -> Odds:
    options = [GenerationOptions(1, temperature=t, top_k=k, top_p=p) for t, k, p in ways]
    return Odds.of(options, torch.device("cpu"))


def theirs(scores: Tensor, temperature: float, top_k: int, top_p: float) -> Tensor:
    """Return the probabilities [V] that transformers would draw from.

    scores: [V].
    """
    warpers: Any = LogitsProcessorList([TemperatureLogitsWarper(temperature)])
    if top_k:
        warpers.append(TopKLogitsWarper(top_k))
    if top_p < 1:
        warpers.append(TopPLogitsWarper(top_p))
    left: Tensor = warpers(torch.zeros(1, 1, dtype=torch.int64), scores[None].clone())[0]
    return left.softmax(-1)


def test_the_same_tokens_are_left_as_in_transformers() -> None:
    scores = some_scores(len(WAYS))
    odds = odds_of(*WAYS)
    left = keep_top_p(keep_top_k(divide(scores, odds.temperature), odds.top_k), odds.top_p)
    expected = torch.stack([theirs(row, *way) for row, way in zip(scores, WAYS, strict=True)])
    torch.testing.assert_close(left.softmax(-1), expected)
    assert (left > -torch.inf).sum(-1).min() == 1


@pytest.mark.parametrize("temperature", [1e-45, 1e-38, 1e-6])
@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (5, 1.0), (0, 0.0)])
def test_next_to_no_temperature_takes_the_most_probable(temperature: float, top_k: int, top_p: float) -> None:
    scores = some_scores(8)
    scores[:4, :20] = -torch.inf
    scores[4:, 25] = torch.finfo().max  # as a repetition penalty near 0 makes it
    chances = torch.linspace(0, 0.999, 8, dtype=torch.float64)
    drawn = draw(scores, odds_of(*[(temperature, top_k, top_p)] * 8), chances)
    assert drawn.tolist() == scores.argmax(-1).tolist()


def test_where_nothing_is_allowed_something_is_drawn() -> None:
    scores = torch.full((2, 30), -torch.inf)
    assert draw(scores, odds_of((1.0, 0, 1.0), (0.5, 5, 0.5)), torch.tensor([0.1, 0.9]).double()).max() < 30


@pytest.mark.parametrize("way", WAYS)
def test_tokens_come_as_often_as_they_should(way: tuple[float, int, float]) -> None:
    (scores,) = some_scores(1)
    chances = torch.from_numpy(np.random.default_rng(1).random(DRAWS))
    tokens = draw(scores.expand(DRAWS, -1), odds_of(*[way] * DRAWS), chances)
    counts, expected = torch.bincount(tokens, minlength=30).double(), theirs(scores, *way).double() * DRAWS
    assert counts[expected == 0].sum() == 0
    often = expected > 5
    deviation = ((counts - expected) ** 2 / expected)[often].sum()
    freedom = max(1, int(often.sum()) - 1)
    assert deviation < freedom + 5 * (2 * freedom) ** 0.5  # chi-square: five standard deviations


def test_no_chance_draws_what_has_no_probability() -> None:
    scores = torch.full((4, 6), -torch.inf)
    scores[:, 2], scores[:, 4] = 0.0, 1.0
    chances = torch.tensor([0.0, 0.2, 0.99, 1 - 2**-53], dtype=torch.float64)
    assert draw(scores, odds_of(*[(1.0, 0, 1.0)] * 4), chances).tolist() == [2, 2, 4, 4]


def test_what_is_left_is_put_together_in_the_order_of_its_ids() -> None:
    none = -torch.inf
    scores = torch.tensor([[none] * 3 + [2.0, none, 1.0], [5.0] + [none] * 5])
    left, ids = compact(scores)
    assert left.tolist() == [[2.0, 1.0], [5.0, none]]
    assert ids[left > none].tolist() == [3, 5, 0]
    left, ids = compact(scores.clamp(min=-9))
    assert left.tolist() == scores.clamp(min=-9).tolist()
    assert ids.tolist() == [list(range(6))] * 2


def test_the_best_are_enough_for_top_p_and_otherwise_all_are_sorted() -> None:
    dice = torch.Generator().manual_seed(8)
    some = torch.rand(60, 1, generator=dice) * 6
    scores = torch.randn(60, 900, generator=dice) * some
    scores[:4, 300:] = -torch.inf  # as top-k leaves them
    top_p = torch.rand(60, generator=dice)
    top_p[4:6] = torch.tensor([0.0, 1.0])
    (cut,) = (top_p < 1).nonzero(as_tuple=True)
    _, sure = sampling.least_of_best(scores[cut], top_p[cut])
    assert 10 < sure.sum() < len(cut)
    expected = scores.clone()
    expected[cut] = scores[cut].masked_fill(scores[cut] < sampling.least_of_all(scores[cut], top_p[cut]), -torch.inf)
    assert torch.equal(keep_top_p(scores, top_p), expected)


def test_equals_at_the_limit_all_stay() -> None:
    scores = torch.tensor([[1.0, 3.0, 1.0, 0.0, 1.0]])
    assert (keep_top_k(scores, torch.tensor([2])) > -torch.inf).tolist() == [[True, True, True, False, True]]
    assert (keep_top_p(scores, torch.tensor([0.75])) > -torch.inf).tolist() == [[True, True, True, False, True]]


SAMPLED: dict[str, Any] = {"do_sample": True, "max_new_tokens": 8, "eos_token_ids": (3,)}


def test_a_seed_repeats_alone_and_in_company(tmp_path: Path) -> None:
    ways: list[dict[str, Any]] = [{"top_k": 5}, {"top_p": 0.9}, {"temperature": 2.0}, {"top_k": 9, "top_p": 0.5}]
    works = [
        make_generate(number, [5, number], seed=2**63 + number % 5, **SAMPLED, **ways[number % 4])
        for number in range(12)
    ]
    company = [make_generate(20, num_beams=3), make_generate(21), make_generate(22, num_return_sequences=3, **SAMPLED)]
    together = [answers_of(each) for each in Bench(tmp_path).run(*works, *company)]
    alone = [answers_of(Bench(tmp_path).run(work)[0]) for work in works]
    assert together[:12] == alone
    assert len({str(each) for each in alone}) > 8


def test_answers_to_one_input_are_drawn_apart_and_the_prompt_is_computed_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    (completed,) = bench.run(make_generate(1, num_return_sequences=6, temperature=3.0, **SAMPLED))
    assert completed.lengths.size == 6
    assert len({str(each) for each in answers_of(completed)}) > 3
    assert bench.program.calls[0] == ("prefill", 1)
    fewer = Bench(tmp_path).run(make_generate(1, num_return_sequences=2, temperature=3.0, **SAMPLED))[0]
    assert answers_of(fewer) == answers_of(completed)[:2]


def test_first_tokens_are_distributed_as_the_model_says(tmp_path: Path) -> None:
    """Test the whole way, with a seed for each generation."""
    program = HistoryProgram(vocabulary_size=8)
    bench = Bench(tmp_path, program, cache_tokens=50_000, max_sequences=200, vocabulary_size=8)
    works = [make_generate(n, [5, 6], max_new_tokens=1, do_sample=True, top_k=5, seed=n) for n in range(3000)]
    drawn = np.bincount([int(each.tokens[0]) for each in bench.run(*works)], minlength=8)
    expected = theirs(program.logits(None, (5, 6)), 1.0, 5, 1.0).numpy() * len(works)
    some = expected > 0
    assert drawn[~some].sum() == 0
    assert ((drawn - expected)[some] ** 2 / expected[some]).sum() < 4 + 5 * 8**0.5
