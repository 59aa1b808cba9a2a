"""Test where texts lie, and sums over them: the code for GPUs gives the same as the rest."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from bertstream.workers.contract import PoolingMode
from bertstream.workers.engine.copies import to_device, to_host
from bertstream.workers.models.pooling import POOLINGS, by_offsets, by_runs
from bertstream.workers.models.segments import segments, segments_at

LENGTHS = [5, 5, 3, 1, 512]
CPU = torch.device("cpu")


def test_texts_that_are_laid_out_already() -> None:
    want = segments(LENGTHS, CPU)
    found = segments_at(want.cu_seqlens, sum(LENGTHS), 512)
    for name in ("lengths", "starts", "cu_seqlens"):
        assert torch.equal(getattr(found, name), getattr(want, name))
    assert (found.longest, found.runs) == (want.longest, [])


def test_texts_of_no_tokens_start_at_one_that_is_there() -> None:
    found = segments_at(torch.tensor([0, 2, 5, 5, 5], dtype=torch.int32), 5, 8)
    assert found.lengths.tolist() == [2, 3, 0, 0]
    assert found.starts.tolist() == [0, 2, 4, 4]


@pytest.mark.parametrize("largest", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_sums_by_one_kernel(dtype: torch.dtype, largest: bool) -> None:
    states = torch.randn(sum(LENGTHS), 48, generator=torch.Generator().manual_seed(1)).to(dtype)
    where = segments(LENGTHS, CPU)
    found, want = by_offsets(states, where.cu_seqlens, largest), by_runs(states, where, largest)
    assert found.dtype == want.dtype
    torch.testing.assert_close(found, want, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("mode", POOLINGS)
def test_pooling_of_texts_that_are_laid_out_looks_at_no_value(mode: str) -> None:
    """Otherwise it could not be recorded: "meta" tensors have no values."""
    where = segments_at(torch.zeros(5, dtype=torch.int32, device="meta"), 10, 0)
    assert POOLINGS[mode](torch.zeros(10, 6, device="meta"), where, 0).shape == (4, 6)


def test_the_contract_has_every_mode() -> None:
    """There are also two modes that read weights besides the states."""
    assert set(get_args(PoolingMode)) == {*POOLINGS, "pooler", "checkpoint"}


def test_on_the_cpu_nothing_is_copied() -> None:
    values = torch.arange(3)
    assert to_device(values, "cpu") is values
    assert to_host(values) is values
