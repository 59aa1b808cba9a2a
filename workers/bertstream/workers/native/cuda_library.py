"""Build and load the operators for CUDA.

kernels.cu becomes a cubin by NVRTC, which torch brings along, or by nvcc; then the machine's own compiler puts
operators.cpp around it.

The operators are checked against ATen on the GPU at each start, and ATen takes their place where they cannot be used.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from bertstream.workers.native.library import SWITCH, NativeError, compiler, may_be_read_only
from bertstream.workers.trust import store

FOLDER = Path(__file__).with_name("cuda")
KERNELS, SOURCE = FOLDER / "kernels.cu", FOLDER / "operators.cpp"
HEADER = Path(__file__).with_name("float8.h")  # the source includes it
BUILD_SECONDS = 300.0
_STANDARD = "--std=c++17"
# How far numbers of about 1 may be from float64's, by ATen's name of the type.
NEAR = {"float32": 2e-5, "float16": 1e-2, "bfloat16": 8e-2}


def architecture() -> str:
    """Return the GPU's architecture as compilers name it: "sm_90" for an H100. Raises NativeError."""
    if not torch.cuda.is_available():
        raise NativeError("this process sees no CUDA device")
    return "sm_{}{}".format(*torch.cuda.get_device_capability())


def file_name(arch: str) -> str:
    """Return the library's name for this machine and GPU."""
    return f"cuda_operators.{platform.machine()}.{arch}.so"


def source_hash() -> str:
    """Return a hash of the operators' source."""
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in (KERNELS, SOURCE, HEADER))).hexdigest()


def build(cache: Path, arch: str | None = None) -> Path:
    """Return the path of the library, which is built into `cache` unless it is there unchanged.

    Safe in several processes at once. Raises NativeError, TrustError where others may write to the cache, and
    ReadOnlyError where nobody may.
    """
    if os.environ.get(SWITCH, "1") == "0":
        raise NativeError(f"switched off by {SWITCH}=0")
    arch = arch or architecture()
    version = subprocess.run([compiler(), "--version"], capture_output=True, check=False).stdout
    key = hashlib.sha256(version + f"{source_hash()} {torch.__version__} {torch.version.cuda}".encode())
    place = cache / "native" / key.hexdigest()[:32]
    library = place / file_name(arch)
    if not store.is_sound(place):
        with (
            may_be_read_only(place, library.name),
            store.new(place) as folder,
            tempfile.TemporaryDirectory() as scratch,
        ):
            cubin = Path(scratch) / "kernels.cubin"
            cubin.write_bytes(compile_kernels(arch))
            _compile(cubin, folder / library.name)
    return library


def compile_kernels(arch: str) -> bytes:
    """Compile kernels.cu to a cubin by NVRTC, or else by nvcc. Raises NativeError that says why neither works."""
    reasons = []
    for way in (compile_by_nvrtc, compile_by_nvcc):
        try:
            return way(arch)
        except NativeError as error:
            reasons.append(str(error))
    raise NativeError("; ".join(reasons))


def compile_by_nvrtc(arch: str) -> bytes:
    """Compile kernels.cu to a cubin by NVRTC. Raises NativeError."""
    nvrtc = _nvrtc()
    program = ctypes.c_void_p()
    _check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), KERNELS.read_bytes(), b"kernels.cu", 0, None, None), "")
    try:
        options = (ctypes.c_char_p * 2)(f"--gpu-architecture={arch}".encode(), _STANDARD.encode())
        status = nvrtc.nvrtcCompileProgram(program, len(options), options)
        _check(status, _text(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program).decode(errors="replace"))
        return _text(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN, program)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _check(status: int, words: str) -> None:
    if status:
        lines = [line for line in words.strip("\0").splitlines() if line.strip()]
        raise NativeError(f"NVRTC failed (error {status}): {lines[0] if lines else 'without a message'}")


def _text(size_of: ctypes._NamedFuncPointer, get: ctypes._NamedFuncPointer, program: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    _check(size_of(program, ctypes.byref(size)), "")
    buffer = ctypes.create_string_buffer(size.value)
    _check(get(program, buffer), "")
    return buffer.raw


def _nvrtc() -> ctypes.CDLL:
    for name in nvrtc_paths():
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise NativeError("NVRTC was not found")


def nvrtc_paths() -> Iterator[str]:
    """Yield the paths where torch's wheels have NVRTC, then where the system may."""
    major = (torch.version.cuda or "13").split(".")[0]
    packages = Path(torch.__file__).parent.parent
    for pattern in (f"nvidia/*/lib/libnvrtc.so.{major}*", f"torch/lib/libnvrtc*.so.{major}*"):
        yield from map(str, sorted(packages.glob(pattern)))
    yield f"libnvrtc.so.{major}"
    yield "libnvrtc.so"


def compile_by_nvcc(arch: str) -> bytes:
    """Compile kernels.cu to a cubin by nvcc. Raises NativeError."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or "/usr/local/cuda"
    nvcc = shutil.which("nvcc") or shutil.which("nvcc", path=f"{home}/bin")
    if nvcc is None:
        raise NativeError("nvcc was not found")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "kernels.cubin"
        _run((nvcc, "-cubin", f"-arch={arch}", _STANDARD, "-o", str(made), str(KERNELS)))
        return made.read_bytes()


def _compile(cubin: Path, library: Path) -> None:
    folder = Path(torch.__file__).parent
    abi = int(torch.compiled_with_cxx11_abi())
    flags = ("-std=c++20", "-O2", "-fPIC", "-shared", f"-D_GLIBCXX_USE_CXX11_ABI={abi}", "-w")
    includes = (f"-I{folder}/include", f"-I{folder}/include/torch/csrc/api/include")
    links = (f"-L{folder}/lib", "-ltorch_cpu", "-lc10", "-ldl")
    cubin_is = f'-DBERTSTREAM_CUBIN="{cubin}"'
    _run((compiler(), *flags, cubin_is, *includes, str(SOURCE), *links, "-o", str(library)))


def _run(command: tuple[str, ...]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=BUILD_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NativeError(f"{command[0]} did not finish: {error}") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["without a message"]
        raise NativeError(f"{command[0]} failed: {next((line for line in lines if 'error' in line), lines[-1])}")


# What this process has loaded: the library, or ATen's operators in its place.
loaded: list[object] = []


def load(library: Path | None) -> str:
    """Register the operators for CUDA, once, after those for the CPU: ATen's where there is no library for this GPU.

    Returns "", or why they are ATen's. Call `switch_on` for each device afterwards.
    """
    if loaded:
        return ""
    reason = "there is no library for this GPU" if library is None or not library.exists() else ""
    if not reason:
        try:
            torch.ops.load_library(library)
            loaded.append(library)
        except (OSError, RuntimeError) as error:
            reason = f"{library} cannot be loaded: {str(error).splitlines()[0]}"
    if reason:
        loaded.append(register_aten())
    return reason


def register_aten() -> object:
    """Register ATen's operators on CUDA under our names, for as long as the returned object lives."""
    registry = torch.library.Library("bertstream", "IMPL", "CUDA")
    registry.impl("add_layer_norm_", add_layer_norm_)
    registry.impl("add_gelu_", add_gelu_)
    return registry


def add_layer_norm_(x: Tensor, added: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Compute the operator of this name by ATen's operators."""
    total = torch.add(x, added).add_(residual)
    return x.copy_(functional.layer_norm(total, weight.shape, weight, bias, eps))


def add_gelu_(x: Tensor, added: Tensor, tanh: bool) -> Tensor:
    """Compute the operator of this name by ATen's operators."""
    found: Tensor = torch.ops.aten.gelu_(x.add_(added), approximate="tanh" if tanh else "none")
    return found


def start(folder: Path, device: torch.device) -> str:
    """Load the library in `folder` and switch it on for this device; return "", or why the operators are ATen's.

    Raises NativeError where this process sees no device.
    """
    index = torch.cuda.current_device() if device.index is None else device.index  # type: ignore[redundant-expr]
    with torch.cuda.device(index):  # the library is for the current device's architecture
        return load(folder / file_name(architecture())) or switch_on(index)


def switch_on(index: int) -> str:
    """Use the kernels on this device if they give ATen's numbers there; return "", or why they are not used."""
    if not any(isinstance(each, Path) for each in loaded):
        return "the library is not loaded"
    use = torch.ops.bertstream.use_cuda_kernels
    try:
        torch.cuda.synchronize(index)  # initialises what the driver's interface needs
        reason: str = use(index, True) or differences(torch.device("cuda", index))
    except RuntimeError as error:  # such as a kernel that was not launched
        reason = str(error).splitlines()[0]
    if reason:
        use(index, False)
    return reason


def differences(device: torch.device) -> str:
    """Return what the operators compute differently from ATen in float64; "" for nothing."""
    generator = torch.Generator().manual_seed(0)
    for name, near in NEAR.items():
        for size in (4, 36, 384, 768, 3072):
            rows = [torch.randn(37, size, generator=generator) for _ in range(2)]
            columns = [torch.randn(size, generator=generator) for _ in range(3)]
            made_up = [each.to(device, getattr(torch, name)) for each in (*rows, *columns)]
            if operator := _unlike_aten(near, *made_up):
                return f"{operator} differs from ATen's in {name} with {size} columns"
    return ""


def _unlike_aten(near: float, x: Tensor, residual: Tensor, added: Tensor, weight: Tensor, bias: Tensor) -> str:
    """Return the operator whose result differs from ATen's; "" for none.

    x, residual: [T, H]; the others: [H].
    """
    ours, wide = torch.ops.bertstream, x.double() + added.double()
    want = functional.layer_norm(wide + residual.double(), weight.shape, weight.double(), bias.double(), 1e-5)
    if not _is_near(ours.add_layer_norm_(x.clone(), added, residual, weight, bias, 1e-5), want, near * 4):
        return "add_layer_norm_"
    if not is_quantized(ours.quantize_rows(x), x.double()):
        return "quantize_rows"
    for form in ("none", "tanh"):
        want = functional.gelu(wide, approximate=form)
        if not _is_near(ours.add_gelu_(x.clone(), added, form == "tanh"), want, near):
            return f"add_gelu_ ({form})"
        if not is_quantized(ours.add_gelu_quantize_rows(x, added, form == "tanh"), want):
            return f"add_gelu_quantize_rows ({form})"
    return ""


def _is_near(got: Tensor, want: Tensor, near: float) -> bool:
    return float((got.double() - want).abs().max()) <= near


def is_quantized(quantized: tuple[Tensor, Tensor], want: Tensor) -> bool:
    """Return whether each number is within half a step: three bits follow the first one, and none is below 2^-9."""
    numbers, scales = (each.double() for each in quantized)
    half_step = torch.maximum(want.abs() / 16, scales / 1024)
    return bool(((numbers * scales - want).abs() <= 1.01 * half_step + 1e-5).all())
