"""Test activations: torch's numbers, and bits that depend neither on what stands beside a number nor on threads."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from bertstream.workers.models import DENSE_ACTIVATIONS, SUPPORTED_ACTIVATIONS
from bertstream.workers.models.activations import Activation
from bertstream.workers.models.invariant import OF_CLASSES

# Of odd widths, and so large that several threads share them.
SHAPES = [(40_000, 1), (9_001, 5), (401, 385), (51, 3_001)]


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def scripted(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """Compile as programs are; the result leaves x as it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit is deprecated
        made = torch.jit.script(module)
    return lambda x: made(x.clone())


def ours(kind: str, name: str) -> Callable[[Tensor], Tensor]:
    if kind == "config":
        return scripted(Activation(name, invariant=True))
    return scripted(OF_CLASSES[name]() if name in OF_CLASSES else getattr(nn, name)())


ALL = [*(("config", name) for name in SUPPORTED_ACTIVATIONS), *(("class", name) for name in DENSE_ACTIVATIONS)]


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_they_have_torchs_numbers(kind: str, name: str) -> None:
    theirs = ACT2FN[name] if kind == "config" else getattr(nn, name)()
    x = torch.cat([torch.randn(5_000, generator=torch.Generator().manual_seed(0)) * 4, torch.linspace(-200, 200, 4001)])
    torch.testing.assert_close(ours(kind, name)(x), theirs(x))
    exact = theirs(x.double())
    error, own = ((found.double() - exact).abs().max() for found in (theirs(x), ours(kind, name)(x)))
    assert own <= 1.5 * error + 1e-7


@pytest.mark.parametrize("name", SUPPORTED_ACTIVATIONS)
def test_bfloat16_is_rounded_once_or_as_transformers_does(name: str) -> None:
    x = torch.linspace(-9, 9, 4001).bfloat16()
    got, want = ours("config", name)(x), ACT2FN[name](x)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_a_row_has_the_same_bits_alone_and_in_any_batch(kind: str, name: str) -> None:
    activation = ours(kind, name)
    for rows, width in SHAPES:
        x = torch.randn(rows, width, generator=torch.Generator().manual_seed(width)) * 3
        torch.set_num_threads(1)
        some = [*range(0, rows - 1, rows // 40), rows - 1]
        alone = torch.stack([activation(x[row]) for row in some])
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            assert torch.equal(activation(x)[some], alone)
