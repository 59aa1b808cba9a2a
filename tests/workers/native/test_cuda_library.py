"""Test the operators for CUDA as far as that goes without a GPU.

The kernels' arithmetic is run as blocks of one thread. The rest is the library around them, and what is done where
something is missing.
"""

from __future__ import annotations

import contextlib
import ctypes
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from bertstream.workers import native
from bertstream.workers.models import float8
from bertstream.workers.native import NativeError, cuda_library
from bertstream.workers.native.library import compiler

needs_compiler = pytest.mark.skipif(not native.status()[0], reason=native.status()[1])

# What CUDA gives a kernel, for blocks of one thread.
SHIM = """
#include <cmath>
#include <cstring>
#define BERTSTREAM_ON_CPU
#define __device__
#define __forceinline__ inline
struct Index { int x, y; };
static Index threadIdx{0, 0}, blockIdx{0, 0}, blockDim{1, 1};
static float rsqrtf(float value) { return 1.f / std::sqrt(value); }
static float __uint_as_float(unsigned bits) { float value; std::memcpy(&value, &bits, 4); return value; }
static unsigned __float_as_uint(float value) { unsigned bits; std::memcpy(&bits, &value, 4); return bits; }
static float half_to_float(unsigned short bits) { _Float16 value; std::memcpy(&value, &bits, 2); return value; }
static unsigned short float_to_half(float value) {
  const _Float16 half = value;
  unsigned short bits;
  std::memcpy(&bits, &half, 2);
  return bits;
}
#include "kernels.cu"
#define ALL(name, T)                                                                                              \\
  extern "C" void layer_norm_##name(T* x, T* added, T* residual, T* weight, T* bias, int rows, int size, float eps) { \\
    for (blockIdx = {0, 0}; blockIdx.x < rows; ++blockIdx.x)                                                      \\
      add_layer_norm_##name(x, added, residual, weight, bias, size, eps);                                         \\
  }                                                                                                               \\
  extern "C" void gelu_##name(T* x, T* added, int rows, int size, int tanh_form) {                                \\
    for (blockIdx = {0, 0}; blockIdx.x < rows; ++blockIdx.x)                                                      \\
      for (blockIdx.y = 0; blockIdx.y <= size / 4; ++blockIdx.y)                                                  \\
        if (tanh_form) add_tanh_gelu_##name(x, added, size); else add_gelu_##name(x, added, size);                \\
  }                                                                                                               \\
  extern "C" void quantize_##name(T* x, Float8* numbers, float* scales, int rows, int size) {                     \\
    for (blockIdx = {0, 0}; blockIdx.x < rows; ++blockIdx.x) quantize_rows_##name(x, numbers, scales, size);      \\
  }                                                                                                               \\
  extern "C" void gelu_quantize_##name(                                                                           \\
      T* x, Float8* numbers, float* scales, int rows, int size, T* added, int tanh_form) {                        \\
    for (blockIdx = {0, 0}; blockIdx.x < rows; ++blockIdx.x)                                                      \\
      add_gelu_quantize_rows_##name(x, numbers, scales, size, added, tanh_form);                                  \\
  }
ALL(float32, float)
ALL(float16, Half)
ALL(bfloat16, BFloat16)
extern "C" void to_float8(float* x, unsigned char* to, int count) {
  for (int i = 0; i < count; ++i) to[i] = float8_of(x[i]);
}
"""


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("kernels")
    (folder / "kernels.cpp").write_text(SHIM)
    flags = ("-std=c++17", "-O2", "-fno-strict-aliasing", "-fPIC", "-shared", "-w", f"-I{cuda_library.FOLDER}")
    made = folder / "kernels.so"
    subprocess.run([compiler(), *flags, str(folder / "kernels.cpp"), "-o", str(made)], check=True)
    return ctypes.CDLL(str(made))


def pointers(*tensors: Tensor) -> list[ctypes.c_void_p]:
    return [ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors]


TYPES = [("float32", 5e-6), ("float16", 8e-3), ("bfloat16", 0.06)]


@needs_compiler
@pytest.mark.parametrize("size", [4, 36, 384, 772])
@pytest.mark.parametrize(("name", "near"), TYPES)
def test_the_layer_norm_kernel_s_numbers(kernels: ctypes.CDLL, name: str, near: float, size: int) -> None:
    generator, dtype = torch.Generator().manual_seed(size), getattr(torch, name)
    x, residual = (torch.randn(7, size, generator=generator).to(dtype) for _ in range(2))
    added, weight, bias = (torch.randn(size, generator=generator).to(dtype) for _ in range(3))
    total = x.double() + added.double() + residual.double()
    want = functional.layer_norm(total, (size,), weight.double(), bias.double(), 1e-5)
    run = kernels[f"layer_norm_{name}"]
    run(*pointers(x, added, residual, weight, bias), 7, size, ctypes.c_float(1e-5))
    assert float((x.double() - want).abs().max()) <= near


@needs_compiler
@pytest.mark.parametrize("form", ["none", "tanh"])
@pytest.mark.parametrize("size", [4, 40, 1536])
@pytest.mark.parametrize(("name", "near"), TYPES)
def test_the_gelu_kernel_s_numbers(kernels: ctypes.CDLL, name: str, near: float, size: int, form: str) -> None:
    generator, dtype = torch.Generator().manual_seed(size), getattr(torch, name)
    x = (torch.randn(9, size, generator=generator) * 3).to(dtype)
    added = torch.randn(size, generator=generator).to(dtype)
    want = functional.gelu(x.double() + added.double(), approximate=form)
    kernels[f"gelu_{name}"](*pointers(x, added), 9, size, int(form == "tanh"))
    assert float((x.double() - want).abs().max()) <= near


@needs_compiler
@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_numbers_are_rounded_as_torch_does(kernels: ctypes.CDLL, name: str) -> None:
    dtype, generator = getattr(torch, name), torch.Generator().manual_seed(1)
    x = (torch.randn(8, 4000, generator=generator) * 5).to(dtype)
    x[0, :4] = torch.tensor([torch.inf, torch.nan, 0.0, torch.finfo(dtype).max])
    wide, added = x.float(), torch.randn(4000, generator=generator).to(dtype)
    wide_added = added.float()
    kernels[f"gelu_{name}"](*pointers(x, added), 8, 4000, 0)
    kernels.gelu_float32(*pointers(wide, wide_added), 8, 4000, 0)
    torch.testing.assert_close(x, wide.to(dtype), atol=0, rtol=0, equal_nan=True)


@needs_compiler
def test_numbers_become_float8_as_torch_has_it(kernels: ctypes.CDLL) -> None:
    """Every bfloat16, and numbers halfway between two float8 or next to that."""
    every = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16).float()
    steps = torch.arange(127, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    between = (steps[1:] + steps[:-1]) / 2
    beside = [torch.nextafter(between, torch.tensor(end)) for end in (-torch.inf, torch.inf)]
    x = torch.cat([every, between, -between, *beside])
    found = torch.empty(len(x), dtype=torch.uint8)
    kernels.to_float8(*pointers(x, found), len(x))
    got, want = found.view(torch.float8_e4m3fn).float(), x.clamp(-448, 448).to(torch.float8_e4m3fn).float()
    torch.testing.assert_close(got, want, atol=0, rtol=0, equal_nan=True)


@needs_compiler
@pytest.mark.parametrize("size", [4, 36, 384, 3072])
@pytest.mark.parametrize("name", [name for name, _ in TYPES])
def test_the_quantizing_kernel_s_numbers_are_aten_s(kernels: ctypes.CDLL, name: str, size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    x = (torch.randn(7, size, generator=generator) * torch.logspace(-3, 3, 7)[:, None]).to(getattr(torch, name))
    x[2], x[4, 1], x[5, 2] = 0, torch.inf, torch.nan
    numbers, scales = torch.empty_like(x, dtype=torch.float8_e4m3fn), torch.empty(7, 1)
    kernels[f"quantize_{name}"](*pointers(x, numbers, scales), 7, size)
    want_numbers, want_scales = float8.quantize_rows(x)
    usual = [0, 1, 2, 3, 6]
    assert torch.equal(numbers[usual].view(torch.uint8), want_numbers[usual].view(torch.uint8))
    assert torch.equal(scales[usual], want_scales[usual])
    assert not bool((numbers.float() * scales)[[4, 5]].isfinite().all(1).any())  # so nothing wrong looks right


@needs_compiler
@pytest.mark.parametrize("form", ["none", "tanh"])
@pytest.mark.parametrize("size", [4, 40, 1536])
@pytest.mark.parametrize("name", [name for name, _ in TYPES])
def test_the_quantizing_gelu_kernel_s_numbers(kernels: ctypes.CDLL, name: str, size: int, form: str) -> None:
    generator, dtype = torch.Generator().manual_seed(size), getattr(torch, name)
    x = (torch.randn(9, size, generator=generator) * 3).to(dtype)
    added = torch.randn(size, generator=generator).to(dtype)
    numbers, scales = torch.empty_like(x, dtype=torch.float8_e4m3fn), torch.empty(9, 1)
    run = kernels[f"gelu_quantize_{name}"]
    run(*pointers(x, numbers, scales), 9, size, *pointers(added), int(form == "tanh"))
    want = functional.gelu(x.double() + added.double(), approximate=form)
    assert cuda_library.is_quantized((numbers, scales), want)
    assert not cuda_library.is_quantized((numbers, scales), want * 1.2)


@needs_compiler
def test_the_check_at_the_start_finds_what_differs(compile_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This uses the operators of the same names for the CPU, which have no float16."""
    native.load(native.build(compile_cache))
    monkeypatch.setattr(cuda_library, "NEAR", {name: cuda_library.NEAR[name] for name in ("float32", "bfloat16")})
    assert cuda_library.differences(torch.device("cpu")) == ""
    ours = torch.ops.bertstream
    for name in ("add_layer_norm_", "quantize_rows", "add_gelu_", "add_gelu_quantize_rows"):
        others = {each: getattr(ours, each) for each in dir(ours) if each.endswith(("_", "rows"))}
        with monkeypatch.context() as patched:
            patched.setattr(torch.ops, "bertstream", SimpleNamespace(**others | {name: wrong(others[name])}))
            assert cuda_library.differences(torch.device("cpu")).startswith(f"{name} ")


def wrong(operator: Callable[..., Any]) -> Callable[..., Any]:
    """Return an operator that gives a half more."""

    def run(*arguments: Any) -> Any:
        found = operator(*arguments)
        return found * 1.5 if isinstance(found, Tensor) else (found[0], found[1] * 1.5)

    return run


def test_aten_in_their_place() -> None:
    generator = torch.Generator().manual_seed(0)
    x, residual = torch.randn(2, 5, 12, generator=generator)
    added, weight, bias = torch.randn(3, 12, generator=generator)
    want = functional.layer_norm(x + added + residual, (12,), weight, bias, 1e-5)
    mine = x.clone()
    assert cuda_library.add_layer_norm_(mine, added, residual, weight, bias, 1e-5) is mine
    torch.testing.assert_close(mine, want)
    for form in ("none", "tanh"):
        mine = x.clone()
        cuda_library.add_gelu_(mine, added, form == "tanh")
        torch.testing.assert_close(mine, functional.gelu(x + added, approximate=form))


@needs_compiler
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has a driver")
def test_without_a_driver_the_kernels_stay_off(
    compile_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_library, "compile_kernels", lambda arch: b"no kernels")
    library = cuda_library.build(tmp_path, "sm_90")
    assert library.name.endswith("sm_90.so")
    assert cuda_library.build(tmp_path, "sm_90") == library
    code = f"""
import torch
from pathlib import Path
from bertstream.workers import native
from bertstream.workers.native import cuda_library
native.load(Path({str(native.build(compile_cache))!r}))
assert cuda_library.load(Path({str(library)!r})) == ""
use = torch.ops.bertstream.use_cuda_kernels
print(use(0, True), use(0, False) == "", use(64, True), use(-1, True), sep="|")
x = torch.ones(2, 4)
want = torch.nn.functional.gelu(torch.ones(2, 4))
assert torch.allclose(torch.ops.bertstream.add_gelu_(x, torch.zeros(4), False), want)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    wanted = "the driver's library, libcuda.so.1, cannot be loaded|True|there is no device 64|there is no device -1"
    assert done.stdout.strip() == wanted


def test_without_a_library_aten_is_registered(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from bertstream.workers.native import cuda_library
import torch
torch.library.define("bertstream::add_gelu_", "(Tensor(a!) x, Tensor added, bool tanh) -> Tensor(a!)")
torch.library.define("bertstream::add_layer_norm_",
    "(Tensor(a!) x, Tensor added, Tensor residual, Tensor weight, Tensor bias, float eps) -> Tensor(a!)")
reasons = cuda_library.load(Path({str(tmp_path / "none.so")!r})), cuda_library.load(None), cuda_library.switch_on(0)
print(*reasons, sep="|")
for name in ("add_gelu_", "add_layer_norm_"):
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"bertstream::{{name}}", "CUDA")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "there is no library for this GPU||the library is not loaded"


def test_a_library_that_is_broken_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_library, "loaded", [])
    monkeypatch.setattr(cuda_library, "register_aten", object)
    (tmp_path / "broken.so").write_bytes(b"broken")
    assert "broken.so cannot be loaded" in cuda_library.load(tmp_path / "broken.so")


@pytest.mark.parametrize(("name", "index"), [("cuda", 2), ("cuda:0", 0), ("cuda:1", 1)])
def test_each_device_gets_the_library_of_its_kind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, index: int
) -> None:
    current = [2]

    @contextlib.contextmanager
    def device(wanted: int) -> Iterator[None]:
        current.append(wanted)
        yield
        current.pop()

    started: list[object] = []

    def load(library: Path) -> str:
        started.append(library)
        return ""

    def switch_on(index: int) -> str:
        started.append(index)
        return "numbers differ"

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current[-1])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8 + current[-1] // 2, 0))
    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(cuda_library, "load", load)
    monkeypatch.setattr(cuda_library, "switch_on", switch_on)
    assert cuda_library.start(tmp_path, torch.device(name)) == "numbers differ"
    assert started == [tmp_path / cuda_library.file_name("sm_90" if index == 2 else "sm_80"), index]
    assert current == [2]


def test_a_library_that_is_not_there_is_not_switched_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "device", lambda index: contextlib.nullcontext())
    monkeypatch.setattr(cuda_library, "architecture", lambda: "sm_75")
    monkeypatch.setattr(cuda_library, "loaded", [])
    monkeypatch.setattr(cuda_library, "register_aten", object)
    monkeypatch.setattr(cuda_library, "switch_on", pytest.fail)
    assert cuda_library.start(tmp_path, torch.device("cuda", 0)) == "there is no library for this GPU"


def unlike(device: torch.device) -> str:
    return "add_gelu_ differs"


def not_launched(device: torch.device) -> str:
    raise RuntimeError("a kernel was not launched\nand more")


@pytest.mark.parametrize(
    ("driver", "differences", "reason", "used"),
    [
        ("", lambda device: "", "", [True]),
        ("", unlike, "add_gelu_ differs", [True, False]),
        ("", not_launched, "a kernel was not launched", [True, False]),
        ("no driver", pytest.fail, "no driver", [True, False]),
    ],
    ids=["like ATen's", "unlike", "not launched", "no driver"],
)
def test_kernels_are_used_only_if_they_give_aten_s_numbers(
    monkeypatch: pytest.MonkeyPatch,
    driver: str,
    differences: Callable[[torch.device], str],
    reason: str,
    used: list[bool],
) -> None:
    switched: list[bool] = []

    def use(index: int, wanted: bool) -> str:
        switched.append(wanted)
        return driver if wanted else ""

    monkeypatch.setattr(cuda_library, "loaded", [Path("library.so")])
    monkeypatch.setattr(torch.cuda, "synchronize", lambda index: None)
    monkeypatch.setattr(torch.ops, "bertstream", SimpleNamespace(use_cuda_kernels=use))
    monkeypatch.setattr(cuda_library, "differences", differences)
    assert cuda_library.switch_on(0) == reason
    assert switched == used


def test_without_a_compiler_for_kernels_both_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cuda_library, "nvrtc_paths", lambda: iter([str(tmp_path / "libnvrtc.so")]))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    with pytest.raises(NativeError, match="NVRTC was not found; nvcc was not found"):
        cuda_library.compile_kernels("sm_90")


def test_the_switch_is_that_of_the_other_operators(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BERTSTREAM_NATIVE", "0")
    with pytest.raises(NativeError, match="BERTSTREAM_NATIVE=0"):
        cuda_library.build(tmp_path, "sm_90")


def found(way: Callable[[str], bytes]) -> str:
    try:
        way("sm_90")
    except NativeError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("way", ["compile_by_nvrtc", "compile_by_nvcc"])
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])  # sm_90 converts numbers to float8 by itself
def test_the_kernels_compile(way: str, arch: str) -> None:
    compile_kernels: Callable[[str], bytes] = getattr(cuda_library, way)
    if "was not found" in (reason := found(compile_kernels)):
        pytest.skip(reason)
    cubin = compile_kernels(arch)
    assert cubin[:4] == b"\x7fELF"
    for name in ("add_layer_norm_float16", "add_gelu_bfloat16", "add_tanh_gelu_float32", "quantize_rows_bfloat16"):
        assert name.encode() in cubin


def test_an_unknown_gpu_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    if "was not found" in (reason := found(cuda_library.compile_by_nvrtc)):
        pytest.skip(reason)
    with pytest.raises(NativeError, match="NVRTC failed"):
        cuda_library.compile_by_nvrtc("sm_1")
