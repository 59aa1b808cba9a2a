from __future__ import annotations

import pytest

from bertstream.server.naming import is_name


@pytest.mark.parametrize("name", ["a", "org/model", "bert-base_1.0", "x" * 128, "-rf"])
def test_names(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize("name", ["", "a b", "a\n", "x" * 129, "a..b", "..", "/a", "ü", "a:b", "a\\b"])
def test_no_names(name: str) -> None:
    assert not is_name(name)
