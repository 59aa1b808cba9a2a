from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.server.tasks.stubs import StubModel, stub_model

Stub = Callable[..., StubModel]


@pytest.fixture
def stub(checkpoint: Callable[[str], Path], tmp_path: Path) -> Stub:
    """Call it with a name from MAKERS and heads, for a model with that tokenizer and these heads, but no workers."""

    def make(name: str, *heads: str, **changed: Any) -> StubModel:
        return stub_model(checkpoint(name), tmp_path, *heads, **changed)

    return make
