"""What is measured in duels, and how their results are shown."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import pytest

import benchmarks.__main__ as main
from benchmarks import plans
from benchmarks.duels import plan
from benchmarks.duels.report import duel_parts, row
from benchmarks.duels.results import DuelResult, DuelResults, Side, Start
from benchmarks.models import MODELS
from benchmarks.workloads import sentences

SMALL, BASE = MODELS["all-MiniLM-L6-v2"], MODELS["bert-base"]
BY_NAME = {duel.name: duel for duel in plan.DUELS}


def options(monkeypatch: pytest.MonkeyPatch, *flags: str) -> argparse.Namespace:
    monkeypatch.setattr(sys, "argv", ["benchmarks", *flags])
    return main.arguments()


def words(texts: Sequence[str]) -> list[int]:
    """Count a token for each word, and two special ones."""
    return [len(text.split()) + 2 for text in texts]


def test_duels_are_fought_only_if_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for flags in ([], ["--goals"], ["--quick"], ["--parts", "bulk"]):
        assert plans.duel_parts(options(monkeypatch, *flags)) == ()
    asked = options(monkeypatch, "--parts", "memory", "heads", "single")
    assert plans.duel_parts(asked) == ("heads", "memory")
    assert plans.parts(asked, SMALL) == ("single",)
    alone = options(monkeypatch, "--parts", "heads")
    assert plans.contenders(alone, SMALL) == []
    assert plans.chosen_models(alone) == ("all-MiniLM-L6-v2",)


def test_each_model_has_a_shape() -> None:
    assert plan.SHAPES.keys() == MODELS.keys()


def test_whole_calls_are_made_of_fewer_items_for_a_costlier_model() -> None:
    heads, thirty_two = BY_NAME["fill mask"], BY_NAME["greedy, 32 at once"]
    assert plan.count_of(heads, SMALL, 1.0) == 192
    assert plan.count_of(heads, BASE, 1.0) == 24
    assert plan.count_of(heads, BASE, 0.01) == 4
    assert plan.count_of(thirty_two, SMALL, 1.0) == plan.count_of(thirty_two, BASE, 0.1) == 32
    assert all(plan.count_of(duel, BASE, 0.3) % max(1, duel.together) == 0 for duel in plan.DUELS)


def test_each_text_has_one_mask_that_is_not_cut() -> None:
    assert plan.masked("a b c") == "a [MASK] c"
    assert plan.masked("a") == "[MASK]"
    assert plan.masked("a " * 700).split().index("[MASK]") == 100
    items, _ = plan.items_of(BY_NAME["fill mask"], 8, words)
    assert [str(item).count("[MASK]") for item in items] == [1] * 8


def test_pairs_are_a_sentence_and_a_text() -> None:
    items, tokens = plan.items_of(BY_NAME["rerank"], 4, words)
    assert [item[0] for item in items] == list(sentences()[:4])
    assert tokens == sum(words([item[1] for item in items]))


def test_prompts_have_one_length() -> None:
    items, tokens = plan.items_of(BY_NAME["greedy, 1 at once"], 4, words)
    assert words([str(item) for item in items]) == [plan.PROMPT_TOKENS] * 4
    assert tokens == 4 * plan.PROMPT_TOKENS


def test_the_work_of_a_round() -> None:
    assert plan.amount(BY_NAME["rerank"], 10, 500, 6, 384) == 10
    assert plan.amount(BY_NAME["4 beams, 1 at once"], 4, 256, 6, 384) == 4 * plan.NEW_TOKENS
    assert plan.amount(BY_NAME["all layers, 1 text a call"], 1, 1000, 6, 250) == 7.0


def test_what_adapters_are_told() -> None:
    assert BY_NAME["4 beams, 32 at once"].options == {
        "use": "generate",
        "together": "32",
        "beams": "4",
        "tokens": str(plan.NEW_TOKENS),
    }


def test_a_line_has_the_ratio_of_medians() -> None:
    result = DuelResult("heads", "rerank", "texts", 100.0, Side([1.0, 2.0, 3.0], [1.0]), Side([4.0, 5.0, 9.0], [3.0]))
    assert row(result) == ("heads: rerank", "texts", "50.0 ± 67%", "20.0 ± 35%", "2.50 ×", "3.00 ×", "reached")
    result.theirs.seconds = [2.0]
    assert row(result)[-1] == "**below 2 ×**"
    assert row(DuelResult("heads", "rerank", "texts", 1.0, why="it is ill"))[-1] == "not measured: it is ill"


def test_tables_of_what_was_measured_alone() -> None:
    assert len(list(duel_parts("tiny", DuelResults()))) == 1
    results = DuelResults(
        starts={"a": Start("a", [1.0, 3.0], [0.5, 0.7])}, memory={"b": 3 << 20}, left_out={"c": "ill"}
    )
    text = "\n".join(duel_parts("tiny", results))
    assert "| a | 2.00 | 0.60 |" in text
    assert "| b | 3 |" in text
    assert "| c | ill |" in text
