"""Test the C++ operators of rotary encoders: windows of attention, turned queries and keys, gated products."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from bertstream.workers import native
from bertstream.workers.models import packing

pytestmark = [
    pytest.mark.skipif(not native.status()[0], reason=native.status()[1]),
    pytest.mark.usefixtures("operators"),
]

# Texts that end within a vector and between two, and panels of all kinds: 48, 64, 80 tokens leave one, four, and two.
LENGTHS = [[1], [5, 1, 2], [130, 80, 64, 49, 33, 16, 3], [512, 200]]


@pytest.fixture(scope="module")
def operators(compile_cache: Path) -> None:
    native.load(native.build(compile_cache))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def starts(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32)


def attended(qkv: Tensor, lengths: list[int], heads: int, window: int, causal: bool) -> Tensor:
    """Attend to each text by itself, by a matrix of queries by keys."""
    found = []
    for rows in qkv.split(lengths):
        q, k, v = rows.view(len(rows), 3, heads, -1).permute(1, 2, 0, 3)
        places = torch.arange(len(rows))
        apart = places - places[:, None]
        mask = (apart.abs() <= window) & ((apart <= 0) | (not causal))
        found.append(functional.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(0, 1).flatten(1))
    return torch.cat(found)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [0, 1, 7, 16, 64, 100, 5000])
@pytest.mark.parametrize(("heads", "size"), [(3, 12), (2, 64)])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 2e-6), (torch.bfloat16, 0.02)])
def test_attention_within_a_window(
    heads: int, size: int, window: int, causal: bool, dtype: torch.dtype, near: float
) -> None:
    for lengths in LENGTHS:
        qkv = random(sum(lengths), 3 * heads * size).to(dtype)
        got = torch.ops.bertstream.attention(qkv, None, starts(lengths), heads, causal, None, window)
        want = attended(qkv.double(), lengths, heads, window, causal)
        assert float((got.double() - want).abs().max()) <= near


def test_a_window_and_a_bias_by_distance() -> None:
    qkv, rows = random(80, 3 * 24), random(2, 2 * 80 - 1, seed=1)
    q, k, v = qkv.double().view(80, 3, 2, 12).permute(1, 2, 0, 3)
    apart = torch.arange(80) - torch.arange(80)[:, None]
    scores = q @ k.transpose(1, 2) * 12**-0.5 + rows.double()[:, apart + 79]
    want = (scores.masked_fill(apart.abs() > 20, -torch.inf).softmax(-1) @ v).transpose(0, 1).flatten(1)
    got = torch.ops.bertstream.attention(qkv, None, starts([80]), 2, False, rows, 20)
    assert float((got.double() - want).abs().max()) <= 5e-6


def test_a_window_does_not_depend_on_other_texts_nor_on_threads() -> None:
    lengths = [200, 130, 64, 64, 23, 1]
    qkv = random(sum(lengths), 3 * 64)

    def attend(qkv: Tensor, lengths: list[int]) -> Tensor:
        found: Tensor = torch.ops.bertstream.attention(qkv, None, starts(lengths), 2, False, None, 20)
        return found

    before, found = torch.get_num_threads(), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        found.append(attend(qkv, lengths))
    torch.set_num_threads(before)
    alone = torch.cat([attend(text, [len(text)]) for text in qkv.split(lengths)])
    assert all(torch.equal(each, alone) for each in found)


def turned(qkv: Tensor, cosines: Tensor, sines: Tensor, heads: int) -> Tensor:
    """Turn as the paper's formula (34) does, with both halves of a head as its pairs."""
    q, k, v = qkv.double().view(len(qkv), 3, heads, -1).unbind(1)
    cosine, sine = (torch.cat([each, each], 1).double()[:, None] for each in (cosines, sines))

    def half_turned(x: Tensor) -> Tensor:
        low, high = x.chunk(2, -1)
        return torch.cat([-high, low], -1)

    return torch.stack([q * cosine + half_turned(q) * sine, k * cosine + half_turned(k) * sine, v], 1).flatten(1)


@pytest.mark.parametrize(("heads", "size"), [(1, 2), (3, 12), (2, 64), (1, 74)])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-6), (torch.bfloat16, 0.02)])
def test_queries_and_keys_are_turned(heads: int, size: int, dtype: torch.dtype, near: float) -> None:
    qkv, angles = random(700, 3 * heads * size).to(dtype), random(700, size // 2, seed=1) * 50
    want = turned(qkv, angles.cos(), angles.sin(), heads)
    got = torch.ops.bertstream.rotate_(qkv, angles.cos(), angles.sin(), heads)
    assert got.data_ptr() == qkv.data_ptr()
    assert float((got.double() - want).abs().max()) <= near
    assert torch.equal(got.view(700, 3, -1)[:, 2], want.to(dtype).view(700, 3, -1)[:, 2])


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "silu": functional.silu,
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 36, 70), (40, 384, 96), (0, 36, 70), (257, 37, 33)])
def test_gates_and_sums_of_products(rows: int, inputs: int, outputs: int, activation: str) -> None:
    x, weight, bias = random(rows, inputs), random(outputs, inputs, seed=1) / 8, random(outputs, seed=2)
    other = random(rows, outputs, seed=3)
    product = functional.linear(x.double(), weight.double(), bias.double())
    packed = packing.pack(weight)
    added = torch.ops.bertstream.linear_add(x, packed, None, None, bias, other)
    torch.testing.assert_close(added.double(), product + other.double(), atol=2e-5, rtol=0)
    want = ACTIVATIONS[activation](product) * other.double()
    gated = torch.ops.bertstream.linear_gate_(other, x, packed, None, None, bias, activation)
    assert gated.data_ptr() == other.data_ptr()
    torch.testing.assert_close(gated.double(), want, atol=5e-5, rtol=0)


def test_gates_of_bytes() -> None:
    x, weight, bias = random(40, 64), random(70, 64, seed=1) / 8, random(70, seed=2)
    numbers, columns = packing.quantized(weight)
    other, packed = random(40, 70, seed=3), packing.pack(numbers)
    product = torch.ops.bertstream.linear(x, packed, columns, None, bias)
    gated = torch.ops.bertstream.linear_gate_(other.clone(), x, packed, columns, None, bias, "gelu")
    torch.testing.assert_close(gated, functional.gelu(product) * other, atol=5e-4, rtol=0)
    added = torch.ops.bertstream.linear_add(x, packed, columns, None, bias, other)
    torch.testing.assert_close(added, product + other, atol=1e-5, rtol=0)


def test_silu_is_exact_everywhere() -> None:
    x = torch.linspace(-100, 100, 40_001).view(-1, 1)
    one, zero = packing.pack(torch.ones(1, 1)), torch.zeros(1)
    got = torch.ops.bertstream.linear_gate_(torch.ones_like(x), x, one, None, None, zero, "silu")
    assert float((got.double() - functional.silu(x.double())).abs().max()) <= 1e-5


def test_wrong_arguments_raise_and_do_not_crash() -> None:
    qkv, half = torch.zeros(4, 96), torch.zeros(4, 16)
    ours = torch.ops.bertstream
    for cosines, sines, heads in (
        (half[:3], half, 1),
        (half, half[:, :15], 1),
        (half, half.double(), 1),
        (half, half, 0),
        (half, half, 5),
        (half, half, 32),  # heads of one number have no halves
    ):
        with pytest.raises(RuntimeError, match="must"):
            ours.rotate_(qkv, cosines, sines, heads)
    x, packed, bias, y = torch.zeros(3, 8), packing.pack(torch.zeros(5, 8)), torch.zeros(5), torch.zeros(3, 5)
    for wrong in (y[:2], torch.zeros(3, 6), y.double(), torch.zeros(5, 3).t()):
        with pytest.raises(RuntimeError, match="must"):
            ours.linear_add(x, packed, None, None, bias, wrong)
        with pytest.raises(RuntimeError, match="must"):
            ours.linear_gate_(wrong, x, packed, None, None, bias, "silu")
    with pytest.raises(RuntimeError, match="activation must be gelu, gelu_tanh or silu"):
        ours.linear_gate_(y, x, packed, None, None, bias, "mish")
    with pytest.raises(RuntimeError, match="window must be"):
        ours.attention(qkv, None, starts([4]), 1, False, None, -2)
