from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bertstream.server.protocols.inference.tasks.base import window_cost
from bertstream.server.protocols.inference.tensors import Spec

TURN: Any = SimpleNamespace(model=SimpleNamespace(limits=SimpleNamespace(stream_tokens=1000, stream_bytes=32_000)))


@pytest.mark.parametrize(
    ("shape", "width", "cost"),
    [
        ((-1, 384), 2600, 48),  # vectors of one text, whatever the width of its ids
        ((-1, -1, 384), 2600, 124_800),  # its states, padded to that width
        ((-1, -1), 1000, 125),
        ((-1, 2), 2600, 13),
    ],
)
def test_what_a_response_holds_counts_as_much_as_its_tokens(shape: tuple[int, ...], width: int, cost: int) -> None:
    assert window_cost([Spec("x", "FP32", shape)], TURN, 1, width, 13) == cost
