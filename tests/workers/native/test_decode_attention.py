"""Test the C++ operator that attends to cached tokens in place against the plain formula."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from bertstream.workers import native

pytestmark = pytest.mark.skipif(not native.status()[0], reason=native.status()[1])

ROWS = 700
LENGTHS = [1, 2, 15, 16, 17, 64, 100, 331]
SHAPES = [(1, 1), (4, 9), (3, 16), (2, 36), (12, 64), (2, 80), (1, 200)]  # heads, and columns of each
KINDS = [(torch.float32, 5e-6), (torch.bfloat16, 0.02)]


@pytest.fixture(scope="module", autouse=True)
def _operators(compile_cache: Path) -> None:
    native.load(native.build(compile_cache))


def sequences(lengths: list[int]) -> tuple[Tensor, Tensor]:
    """Return rows [B, M] in any order, with those of others and some more than once, and their numbers [B].

    The last row of each is no other's, as it is written to. Padding is no row at all.
    """
    generator = torch.Generator().manual_seed(len(lengths))
    past = torch.full((len(lengths), max(lengths)), 1 << 40)
    for number, length in enumerate(lengths):
        past[number, :length] = torch.randint(len(lengths), ROWS, (length,), generator=generator)
        past[number, length - 1] = number
    return past, torch.tensor(lengths)


def expected(q: Tensor, cache: Tensor, past: Tensor, lengths: Tensor, heads: int) -> Tensor:
    """Return the context [B, H] in float64."""
    found = []
    for query, line, length in zip(q.double(), past, lengths.tolist(), strict=True):
        keys, values = cache.double()[:, line[:length]].view(2, length, heads, -1).unbind(0)
        scores = torch.einsum("hd,mhd->hm", query.view(heads, -1), keys) / (query.numel() // heads) ** 0.5
        found.append(torch.einsum("hm,mhd->hd", scores.softmax(1), values).flatten())
    return torch.stack(found)


@pytest.mark.parametrize(("heads", "size"), SHAPES)
@pytest.mark.parametrize(("dtype", "near"), KINDS)
def test_it_equals_the_formula(heads: int, size: int, dtype: torch.dtype, near: float) -> None:
    generator = torch.Generator().manual_seed(size)
    cache = torch.randn(2, ROWS, heads * size, generator=generator).to(dtype)
    q = torch.randn(len(LENGTHS), heads * size, generator=generator).to(dtype)
    past, lengths = sequences(LENGTHS)
    before = cache.clone()
    got = torch.ops.bertstream.decode_attention(q, cache, None, past, lengths, heads)
    assert got.dtype == dtype
    assert float((got.double() - expected(q, cache, past, lengths, heads)).abs().max()) <= near
    assert torch.equal(cache, before)


@pytest.mark.parametrize(("dtype", "near"), KINDS)
@pytest.mark.parametrize(("heads", "size"), SHAPES)
def test_it_writes_keys_and_values_first(heads: int, size: int, dtype: torch.dtype, near: float) -> None:
    generator = torch.Generator().manual_seed(size)
    cache = torch.randn(2, ROWS, heads * size, generator=generator).to(dtype)
    qkv = torch.randn(len(LENGTHS), 3 * heads * size, generator=generator).to(dtype)
    past, lengths = sequences(LENGTHS)
    own = torch.arange(len(LENGTHS))
    want = cache.index_copy(1, own, qkv[:, heads * size :].view(len(LENGTHS), 2, -1).transpose(0, 1))
    got = torch.ops.bertstream.decode_attention(qkv, cache, own, past, lengths, heads)
    assert torch.equal(cache, want)
    difference = got.double() - expected(qkv[:, : heads * size], want, past, lengths, heads)
    assert float(difference.abs().max()) <= near


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_neither_companions_nor_threads_change_a_number(dtype: torch.dtype) -> None:
    heads, hidden = 12, 768
    generator = torch.Generator().manual_seed(1)
    cache = torch.randn(2, ROWS, hidden, generator=generator).to(dtype)
    q = torch.randn(len(LENGTHS), hidden, generator=generator).to(dtype)
    past, lengths = sequences(LENGTHS)
    before, found = torch.get_num_threads(), []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        found.append(torch.ops.bertstream.decode_attention(q, cache, None, past, lengths, heads))
    torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    for i, length in enumerate(LENGTHS):
        line = past[i : i + 1, :length].contiguous()
        alone = torch.ops.bertstream.decode_attention(q[i : i + 1], cache, None, line, lengths[i : i + 1], heads)
        assert torch.equal(alone[0], found[0][i])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_scores_neither_overflow_nor_vanish(dtype: torch.dtype) -> None:
    cache, q = torch.full((2, 20, 16), 100.0, dtype=dtype), torch.full((1, 16), 100.0, dtype=dtype)
    cache[1] = torch.arange(20).unsqueeze(1)
    past = torch.arange(20).unsqueeze(0)
    got = torch.ops.bertstream.decode_attention(q, cache, None, past, torch.tensor([20]), 2)
    torch.testing.assert_close(got.float(), torch.full((1, 16), 9.5))
    got = torch.ops.bertstream.decode_attention(-q, cache, None, past, torch.tensor([20]), 2)
    torch.testing.assert_close(got.float(), torch.full((1, 16), 9.5))


@pytest.mark.parametrize("own", [None, torch.zeros(0, dtype=torch.int64)])
def test_no_sequences_have_no_context(own: Tensor | None) -> None:
    x, none = torch.zeros(0, 6 if own is None else 18), torch.zeros(0, dtype=torch.int64)
    for longest in (0, 3):
        past = torch.zeros(0, longest, dtype=torch.int64)
        got = torch.ops.bertstream.decode_attention(x, torch.zeros(2, 8, 6), own, past, none, 2)
        assert got.shape == (0, 6)


def test_no_columns_are_no_context() -> None:
    past, lengths = torch.tensor([[0, 1]]), torch.tensor([2])
    for own in (None, torch.tensor([4])):
        got = torch.ops.bertstream.decode_attention(torch.zeros(1, 0), torch.zeros(2, 8, 0), own, past, lengths, 2)
        assert got.shape == (1, 0)


def test_arguments_that_it_cannot_take_are_refused() -> None:
    cache, past, lengths = torch.zeros(2, 8, 6), torch.tensor([[0, 1], [2, 3]]), torch.tensor([1, 2])
    q, qkv, own = torch.zeros(2, 6), torch.zeros(2, 18), torch.tensor([4, 5])
    attend = torch.ops.bertstream.decode_attention
    attend(q, cache, None, past, lengths, 2)
    attend(qkv, cache, own, past, lengths, 2)
    for arguments, told in [
        ((q.double(), cache, None, past, lengths, 2), "x must be float32 or bfloat16"),
        ((qkv, cache, None, past, lengths, 2), "x must have the cache's columns"),
        ((q, cache, own, past, lengths, 2), "x must have the cache's columns"),
        ((q, cache.bfloat16(), None, past, lengths, 2), "cache must be contiguous keys and values"),
        ((q, cache[0], None, past, lengths, 2), "cache must be contiguous keys and values"),
        ((q, cache, None, past, lengths, 4), "as many columns as all heads"),
        ((q, cache, None, past, lengths, 0), "as many columns as all heads"),
        ((q, cache, None, past[:1], lengths, 2), "past must be contiguous int64"),
        ((q, cache, None, past.int(), lengths, 2), "past must be contiguous int64"),
        ((q, cache, None, past, lengths.int(), 2), "lengths must be contiguous int64"),
        ((q, cache, None, past, torch.tensor([1, 3]), 2), "lengths must be from 1"),
        ((q, cache, None, past, torch.tensor([0, 1]), 2), "lengths must be from 1"),
        ((q, cache, None, past + 5, lengths, 2), "past must name rows of the cache"),
        ((q, cache, None, past - 1, lengths, 2), "past must name rows of the cache"),
        ((qkv, cache, own + 3, past, lengths, 2), "rows must be rows of the cache"),
        ((qkv, cache, own[:1], past, lengths, 2), "rows must be contiguous int64"),
    ]:
        with pytest.raises(RuntimeError, match=told):
            attend(*arguments)
