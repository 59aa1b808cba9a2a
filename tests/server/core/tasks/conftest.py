from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.server.core.tasks.recogniser import FAMILIES, Setting
from tests.server.core.tasks.stubs import StubModel, stub_model

Stub = Callable[..., StubModel]


@pytest.fixture
def stub(checkpoint: Callable[[str], Path], tmp_path: Path) -> Stub:
    """Return a function that makes a model without workers, with the tokenizer of a name from MAKERS, and heads."""

    def make(name: str, *heads: str, **changed: Any) -> StubModel:
        return stub_model(checkpoint(name), tmp_path, *heads, **changed)

    return make


@pytest.fixture(params=FAMILIES)
def setting(
    request: pytest.FixtureRequest, checkpoint: Callable[[str], Path], settings: dict[str, Setting], tmp_path: Path
) -> Setting:
    return _setting(request.param, checkpoint, settings, tmp_path)


@pytest.fixture
def bert(checkpoint: Callable[[str], Path], settings: dict[str, Setting], tmp_path: Path) -> Setting:
    return _setting("bert", checkpoint, settings, tmp_path)


@pytest.fixture(scope="module")
def settings() -> dict[str, Setting]:
    return {}


def _setting(name: str, checkpoint: Callable[[str], Path], made: dict[str, Setting], folder: Path) -> Setting:
    if name not in made:
        made[name] = Setting(checkpoint(name), folder)
    return made[name]
