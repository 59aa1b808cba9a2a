"""Choose what a program is compiled for: a precision, a kind of device, and the operators available for both."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch

from bertstream.workers import native
from bertstream.workers.compile.revisions import Progress
from bertstream.workers.models import Operators, Products
from bertstream.workers.native import cuda_library
from bertstream.workers.programs import gpu_products

log = logging.getLogger(__name__)

DTYPES = ("float32", "float16", "bfloat16", "int8", "fp8")
NATIVE_DTYPES = ("float32", "bfloat16", "int8")
DEVICES = ("cpu", "cuda")
_TORCH_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Target:
    """Describe what a program is compiled for."""

    dtype: str
    device: str
    flash: bool  # CUDA's flash attention
    native: bool  # our C++ operators; ATen's otherwise
    amx: bool  # whether the operators use it here
    vectors: bool = False  # whether they multiply without it, too
    bfloat16: bool = False  # whether they multiply bfloat16 as it is
    kernels: Path | None = None  # the library of our operators for CUDA

    @property
    def operators(self) -> Operators:
        """Return how the program computes."""
        others: Products = "packed" if self.native and (self.amx or self.vectors) else "plain"
        products: Products = others
        if self.dtype == "int8":
            products = "int8"
        elif self.dtype == "fp8":
            products = "fp8"
        epilogue = self.device == "cuda" and self.dtype in ("float16", "bfloat16")
        keeps_bfloat16 = self.bfloat16 and self.states == torch.bfloat16
        return Operators(self.native, self.flash, products, others, self.amx, keeps_bfloat16, epilogue)

    @property
    def states(self) -> torch.dtype:
        """Return the type of hidden states.

        Beside coarser products it is bfloat16 where that is fast, which is exact enough for them.
        """
        if self.dtype == "int8":
            return torch.bfloat16 if self.bfloat16 else torch.float32
        if self.dtype == "fp8":
            return torch.bfloat16
        return _TORCH_DTYPES[self.dtype]

    @property
    def identity(self) -> str:
        """Return a text with all that the folder's content depends on: the layout of weights, but not the instructions.

        The operators for the processor are not in it, so that all processors with one layout share it.
        """
        kernels = self.kernels.name if self.kernels else ""  # tells the GPU's kind
        return f"{self.dtype} {self.device} {self.operators} {self.states} {self.amx} {kernels}"


def choose(dtype: str, device: str, cache: Path, tell: Progress) -> Target:
    """Choose the target, with the operators available, built into `cache` and loaded.

    Raises ValueError, ProcessorError where the environment asks for instructions that there are not, and
    native.ReadOnlyError where the cache lacks operators and cannot be written to.
    """
    _check(dtype, device)
    flash = device == "cuda" and dtype != "float32" and _has_flash()
    if device == "cuda":
        kernels = library_for_cuda(cache, tell) if flash and torch.cuda.is_available() else None
        return Target(dtype, device, flash, native=kernels is not None, amx=False, kernels=kernels)
    if dtype not in NATIVE_DTYPES:
        return Target(dtype, device, flash, native=False, amx=False)
    tell("operators", 0, 1)
    if library_for_cpu(cache) is None:
        return Target(dtype, device, flash, native=False, amx=False)
    return Target(
        dtype,
        device,
        flash,
        native=True,
        amx=native.has_amx(),
        vectors=native.has_vectors(),
        bfloat16=native.has_bfloat16(),
    )


def _check(dtype: str, device: str) -> None:
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
    if device not in DEVICES:
        raise ValueError(f"device {device!r} is not one of {', '.join(DEVICES)}")
    if dtype == "int8" and device != "cpu":
        raise ValueError(f"dtype {dtype!r} is for the CPU alone, not for {device}")
    if dtype == "fp8" and device != "cuda":
        raise ValueError(f"dtype {dtype!r} is for CUDA alone, not for {device}")
    if dtype == "fp8" and torch.cuda.is_available() and (reason := gpu_products.float8_problem(torch.device("cuda"))):
        raise ValueError(f"dtype {dtype!r} cannot be had: {reason}")


def library_for_cpu(cache: Path) -> Path | None:
    """Return our C++ operators, loaded; None where they cannot be had. Raises as `choose` does."""
    try:
        return native.provide(cache)
    except native.NativeError:
        return None  # ATen computes the same, only slower; native.status() says why


def library_for_cuda(cache: Path, tell: Progress) -> Path | None:
    """Return the operators for CUDA, in use on the GPU that compiles; None where they cannot be had.

    The library for the CPU has the schemas, so this one is of no use without.
    """
    tell("operators", 0, 2)
    if library_for_cpu(cache) is None:
        return None
    tell("operators", 1, 2)
    try:
        kernels = cuda_library.build(cache)
        if reason := cuda_library.start(kernels.parent, torch.device("cuda")):
            raise native.NativeError(reason)
    except native.NativeError as error:
        log.warning("the GPU gets ATen's operators alone, batches take longer: %s", error)
        return None
    return kernels


def _has_flash() -> bool:
    """Return whether to use flash attention, which needs Ampere or newer.

    Without a GPU here, we compile for what most have.
    """
    return not torch.cuda.is_available() or torch.cuda.get_device_capability() >= (8, 0)
