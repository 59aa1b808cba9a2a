"""Test, on the CPU, the tests of a GPU: its fp8 products are right, and its GELU after a product is another form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.models import float8
from bertstream.workers.programs import gpu_products
from bertstream.workers.programs.program import load_module
from tests.support.checkpoints import tiny_bert

CPU = torch.device("cpu")


def test_products_of_fp8_are_right() -> None:
    assert gpu_products.float8_difference(CPU) == ""


@pytest.mark.parametrize("factor", [1.02, torch.nan])
def test_products_of_fp8_that_are_wrong(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    right = float8.product
    monkeypatch.setattr(float8, "product", lambda *arguments: right(*arguments) * factor)
    assert gpu_products.float8_difference(CPU).startswith("a product of fp8 on cpu is off by ")


def fail(*_: object) -> Tensor:
    raise RuntimeError("CUDA error: CUBLAS_STATUS_NOT_SUPPORTED\nand more")


def test_products_that_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(float8, "product", fail)
    reason = "fails: CUDA error: CUBLAS_STATUS_NOT_SUPPORTED"
    assert gpu_products.float8_difference(CPU) == f"a product of fp8 on cpu {reason}"
    monkeypatch.setattr(gpu_products, "product_with_gelu", fail)
    assert gpu_products.epilogue_problem(CPU, torch.bfloat16) == f"GELU at the end of a product {reason}"


@pytest.mark.parametrize(
    ("capability", "problem"),
    [
        ((8, 9), "cuda:1 has compute capability 8.9, and fp8 needs 9.0 (Hopper) or newer"),
        ((9, 0), "asked on cuda:1"),
        ((10, 0), "asked on cuda:1"),
    ],
)
def test_only_new_gpus_are_asked(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], problem: str) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(gpu_products, "float8_difference", lambda device: f"asked on {device}")
    assert gpu_products.float8_problem(torch.device("cuda", 1)) == problem


Ended = Callable[[Tensor, Tensor, Tensor], Tensor]


def ended(form: str, off: float = 0.0) -> Ended:
    """Return a GPU's GELU at the end of a product, rounded to the type of x."""

    def run(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        exact = functional.linear(x.double(), weight.double(), bias.double())
        return (functional.gelu(exact, approximate=form) + off).to(x.dtype)

    return run


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_only_the_tanh_form_is_taken(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    monkeypatch.setattr(gpu_products, "product_with_gelu", ended("tanh"))
    assert gpu_products.epilogue_problem(CPU, dtype) == ""
    monkeypatch.setattr(gpu_products, "product_with_gelu", ended("none"))
    assert gpu_products.epilogue_problem(CPU, dtype) == "GELU at the end of a product is not the tanh form"


def test_numbers_that_differ_for_some_rows_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return ended("tanh", off=0.1 if len(x) == 37 else 0.0)(x, weight, bias)

    monkeypatch.setattr(gpu_products, "product_with_gelu", run)
    problem = gpu_products.epilogue_problem(CPU, torch.float16)
    assert problem == "GELU at the end of a product differs from ATen's for 37 rows"


@pytest.mark.parametrize(
    ("activation", "places"), [("gelu_new", 5), ("gelu_pytorch_tanh", 5), ("gelu", 0), ("relu", 0)]
)
def test_a_program_takes_it_once_it_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, activation: str, places: int
) -> None:
    """The numbers show it here, where the CPU's GELU is the wrong one."""
    directory = tiny_bert(tmp_path / "made", hidden_act=activation)
    module = load_module(compile_model(directory, dtype="bfloat16", device="cuda", cache=tmp_path), CPU)
    assert len([each for each in module.modules() if hasattr(each, "epilogue")]) == places
    before = states(module)
    problem = gpu_products.use_epilogue(module, CPU)
    assert problem == ("GELU at the end of a product is not the tanh form" if places else "")
    assert torch.equal(states(module), before)
    monkeypatch.setattr(gpu_products, "epilogue_problem", lambda device, dtype: "")
    assert gpu_products.use_epilogue(module, CPU) == ""
    assert torch.equal(states(module), before) == (places == 0)
    assert float((states(module) - before).abs().mean()) <= 0.01


def states(module: Any) -> Tensor:
    with torch.inference_mode():
        found: Tensor = module(torch.arange(5, 65), None, [20, 20, 7, 13], [5])[0]
    return found.float()


def test_a_program_for_the_cpu_has_no_such_place(tmp_path: Path) -> None:
    directory = tiny_bert(tmp_path / "made", hidden_act="gelu_new")
    module = load_module(compile_model(directory, dtype="float16", cache=tmp_path), CPU)
    assert gpu_products.use_epilogue(module, CPU) == ""
    assert not any(hasattr(each, "epilogue") for each in module.modules())


def test_nothing_is_asked_for_a_program_without_a_place() -> None:
    assert gpu_products.use_epilogue(SimpleNamespace(modules=lambda: iter([object()])), CPU) == ""
