from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bertstream.server.config import ConfigError, ModelTable, ServeConfig
from bertstream.server.embedded import OPTIONS, embedded_config


def test_options_are_those_of_the_server() -> None:
    assert embedded_config({}, {}) == ServeConfig()
    assert {name for name in OPTIONS if not hasattr(ServeConfig(), name)} == set()


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"models": ("a", Path("b"))}, {"models": ("a", "b")}),
        ({"models": ["a"], "workers": 2, "device": "cpu"}, {"models": ("a",), "workers": 2, "device": "cpu"}),
        ({"cache": Path("/c"), "dtype": None}, {"cache": "/c"}),
        ({"model": {"a": {"source": "b"}}}, {"tables": {"a": ModelTable(source="b")}}),
    ],
)
def test_options_are_parsed_as_in_the_file(options: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert embedded_config(options, {}) == ServeConfig(**wanted)


def test_of_the_variables_only_the_cache_counts() -> None:
    environment = {"BERTSTREAM_CACHE": "/c", "BERTSTREAM_DTYPE": "int8"}
    assert embedded_config({}, environment) == ServeConfig(cache="/c")
    assert embedded_config({"cache": "/d"}, environment) == ServeConfig(cache="/d")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"port": 1}, "an embedded server has no option 'port'"),
        ({"model_roots": ["/"]}, "no option 'model_roots'"),
        ({"workers": -1}, "^workers must be at least 0"),
        ({"workers": "two"}, "^workers must be a whole number, not 'two'"),
        ({"model": {"a": {"worker": 1}}}, r"^model\.a: there is no option 'worker'"),
    ],
)
def test_options_that_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        embedded_config(options, {})
