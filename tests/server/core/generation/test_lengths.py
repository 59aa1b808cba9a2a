from __future__ import annotations

from typing import Any

import pytest

from bertstream.server.core.generation.lengths import Lengths


def lengths(**given: Any) -> Lengths:
    values: dict[str, Any] = {
        "causal": True,
        "max_tokens": 100,
        "max_new_tokens": 20,
        "asked": False,
        "max_length": 0,
        "min_new_tokens": None,
        "min_length": 0,
    }
    return Lengths(**(values | given))


@pytest.mark.parametrize(
    ("given", "before", "most"),
    [
        ({}, 1, 20),
        ({}, 95, 5),  # where the positions end
        ({"max_new_tokens": 500}, 40, 60),
        ({"max_new_tokens": None, "max_length": 50}, 10, 40),  # max_length counts the tokens before
        ({"max_new_tokens": None, "max_length": 50}, 1, 49),
        ({"max_new_tokens": None, "max_length": 50}, 70, 1),  # as in transformers, which checks after each token
        ({"max_new_tokens": None, "max_length": 500}, 10, 90),
        ({"max_new_tokens": 7, "max_length": 50}, 10, 7),
    ],
)
def test_the_most_new_tokens(given: dict[str, Any], before: int, most: int) -> None:
    assert lengths(**given).max_new(before) == most


@pytest.mark.parametrize(
    ("given", "before", "fewest"),
    [
        ({}, 1, 0),
        ({"min_new_tokens": 3, "min_length": 50}, 10, 3),
        ({"min_length": 15}, 10, 5),
        ({"min_length": 5}, 10, 0),
        ({"min_new_tokens": 20}, 95, 5),  # never more than the maximum
    ],
)
def test_the_fewest_new_tokens(given: dict[str, Any], before: int, fewest: int) -> None:
    assert lengths(**given).min_new(before) == fewest


@pytest.mark.parametrize(
    ("given", "most"),
    [
        ({}, 80),
        ({"max_new_tokens": 60, "asked": True}, 40),
        ({"max_new_tokens": 60}, 80),  # it is not the caller's, so the prompt need not make room
        ({"max_new_tokens": 5}, 95),
        ({"max_tokens": 16}, 8),
    ],
)
def test_how_long_a_prompt_may_be(given: dict[str, Any], most: int) -> None:
    assert lengths(**given).max_prompt == most


def test_a_prompt_of_the_greatest_length_leaves_room() -> None:
    asked = lengths(max_new_tokens=60, asked=True)
    assert asked.max_new(asked.max_prompt) == 60
    assert lengths().max_new(lengths().max_prompt) == 20
    assert lengths().at_least(3).min_new(1) == 3
