"""Windows of long texts, made into one answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bertstream.server.core.windows import WindowPooling, normalized, pool_windows, to_wire, whole_texts
from bertstream.workers.contract import WireType
from bertstream.workers.engine.outputs import encoded

ROWS = np.array([[1, 5], [3, 1], [2, 2], [4, -6]], np.float32)
COUNTS, TOKENS = np.array([2, 1, 1]), np.array([30, 10, 9, 8], np.int32)


@pytest.mark.parametrize(("how", "first"), [("mean", [2, 3]), ("max", [3, 5]), ("weighted", [1.5, 4])])
def test_the_windows_of_each_text(how: WindowPooling, first: list[float]) -> None:
    assert pool_windows(ROWS, COUNTS, TOKENS, how).tolist() == [first, [2, 2], [4, -6]]


def test_whole_texts_are_named_and_normalized_once() -> None:
    texts = np.array([0, 0, 3, 4], np.int32)
    unit = normalized(ROWS)
    found = whole_texts({"pooled": unit}, texts, TOKENS, "mean", normalize=True, wire_type="float32")
    assert (found.texts.tolist(), found.layout.lengths.tolist()) == ([0, 3, 4], [40, 9, 8])
    np.testing.assert_array_equal(found.tensors["pooled"][1:], unit[2:])  # of one window, to the bit
    np.testing.assert_allclose(found.tensors["pooled"][0], normalized(unit[:2].mean(0, keepdims=True))[0], rtol=1e-6)
    apart = whole_texts({"pooled": unit}, texts, TOKENS, "none", normalize=True, wire_type="float32")
    assert apart.window_counts is not None
    assert apart.window_counts.tolist() == [2, 1, 1]


@pytest.mark.parametrize("how", ["mean", "none"])
def test_none_of_no_texts(how: WindowPooling) -> None:
    nothing = np.zeros(0, np.int32)
    found = whole_texts({}, nothing, nothing, how, normalize=True, wire_type="float32")
    assert (found.texts.size, found.tensors) == (0, {})


@pytest.mark.parametrize("wire_type", ["float32", "float16", "bfloat16", "int8"])
def test_types_are_those_of_the_workers(wire_type: WireType) -> None:
    values = np.random.default_rng(3).normal(size=(50, 30)).astype(np.float32)
    values[0], values[1, 0] = 0.0, 1.00390625  # a row without a scale, and a half between two numbers of bfloat16
    found, want = to_wire("pooled", values, wire_type), encoded("pooled", torch.from_numpy(values), wire_type)
    assert found.keys() == want.keys()
    for name, tensor in want.items():
        np.testing.assert_array_equal(found[name], tensor.numpy())
