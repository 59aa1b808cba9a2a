"""Build and load operators.cpp and the headers beside it, importing torch only when it is needed.

The compiler is called directly: torch.utils.cpp_extension would need ninja, setuptools and Python's headers for the
same single command.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache as remember
from pathlib import Path

from bertstream.workers.trust import store
from bertstream.workers.trust.ownership import check_way, make_folder

SOURCE = Path(__file__).with_name("operators.cpp")
SWITCH = "BERTSTREAM_NATIVE"
# All of the environment that decides which operators there are, and which instructions they use.
SWITCHES = (SWITCH, "BERTSTREAM_AMX", "ATEN_CPU_CAPABILITY", "CXX")
BUILD_SECONDS = 300.0

# The compiler flags for torch's own vector types, for each CPU capability that torch reports.
_VECTOR_FLAGS = {
    "AVX512": ("-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw", "-mfma", "-DCPU_CAPABILITY_AVX512"),
    "AVX2": ("-mavx2", "-mfma", "-mf16c", "-DCPU_CAPABILITY_AVX2"),
}


class NativeError(Exception):
    """The operators cannot be built or loaded; the message says why."""


@remember
def compiler() -> str:
    """Return the C++ compiler's path: $CXX, or the first of the usual ones. Raises NativeError."""
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        if name and (found := shutil.which(name)):
            return found
    raise NativeError("no C++ compiler found")


def status() -> tuple[bool, str]:
    """Return whether the operators can be used here, and why or why not, as far as this process knows.

    Loads no torch and builds nothing.
    """
    try:
        if failures:
            raise NativeError(failures[-1])
        _check_wanted()
        return True, f"built by {compiler()}"
    except NativeError as error:
        return False, str(error)


def _check_wanted() -> None:
    if os.environ.get(SWITCH, "1") == "0":
        raise NativeError(f"switched off by {SWITCH}=0")
    if os.name != "posix":
        raise NativeError("only built on Linux and macOS")


def file_name() -> str:
    """Return the library's name for this machine; another machine's instructions would kill the process."""
    import torch

    return f"operators.{platform.machine()}.{torch.backends.cpu.get_cpu_capability().lower()}.so"


def source_hash() -> str:
    """Return a hash of the operators' source, headers included."""
    digest = hashlib.sha256()
    for path in (SOURCE, *sorted(SOURCE.parent.glob("*.h"))):
        digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def build(cache: Path) -> Path:
    """Return the path of the library, which is built into `cache` unless it is there unchanged.

    Safe in several processes at once. Raises NativeError, and TrustError where others may write to the cache.
    """
    _check_wanted()
    failures.clear()
    try:
        return _build(cache)
    except NativeError as error:
        failures.append(str(error))
        raise


def _build(cache: Path) -> Path:
    command = _command()
    place = cache / "native" / _key(command)
    library = place / file_name()
    if store.is_sound(place):
        return library
    make_folder(place.parent)
    check_way(place.parent)
    failure = place.with_suffix(".failed")
    with _locked(place.with_suffix(".lock")):
        if store.is_sound(place):  # another process may have built it meanwhile
            return library
        if failure.exists():  # the same compiler would fail again, and take as long
            raise NativeError(f"{failure.read_text(encoding='utf-8')} (remembered in {failure})")
        try:
            with store.new(place) as folder:
                _compile(command, folder / library.name)
        except NativeError as error:
            failure.write_text(str(error), encoding="utf-8")
            raise
    return library


def _command() -> tuple[str, ...]:
    """Return the compiler's command without its output."""
    import torch

    torch_folder = Path(torch.__file__).parent
    capability = torch.backends.cpu.get_cpu_capability()
    vectors = _VECTOR_FLAGS.get(capability, ())
    if not vectors and platform.machine() in ("x86_64", "AMD64"):  # multiply-and-add would be a function call
        raise NativeError("the processor has no AVX2, without which the operators would be slower than ATen's")
    level = capability if vectors else "DEFAULT"
    abi = int(torch.compiled_with_cxx11_abi())
    includes = (f"-I{torch_folder}/include", f"-I{torch_folder}/include/torch/csrc/api/include")
    # -fopenmp: at::parallel_for is a plain loop without it.
    flags = ("-std=c++20", "-O3", "-fPIC", "-shared", "-fopenmp", f"-D_GLIBCXX_USE_CXX11_ABI={abi}", "-w")
    links = (f"-L{torch_folder}/lib", "-ltorch_cpu", "-lc10")
    return (compiler(), *flags, *vectors, f"-DCPU_CAPABILITY={level}", *includes, str(SOURCE), *links)


def _key(command: tuple[str, ...]) -> str:
    import torch

    version = subprocess.run([compiler(), "--version"], capture_output=True, check=False).stdout
    digest = hashlib.sha256(version)
    digest.update("\0".join((*command, torch.__version__, source_hash())).encode())
    return digest.hexdigest()[:32]


def _compile(command: tuple[str, ...], library: Path) -> None:
    try:
        done = subprocess.run(
            [*command, "-o", str(library)], capture_output=True, text=True, check=False, timeout=BUILD_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NativeError(f"{command[0]} did not finish: {error}") from error
    if done.returncode != 0:
        raise NativeError(f"{command[0]} failed: {_first_error(done.stderr)}")


def _first_error(output: str) -> str:
    lines = output.strip().splitlines()
    return next((line for line in lines if "error" in line), lines[-1] if lines else "without a message")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the file's lock, which the kernel releases if this process dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# The libraries that this process has loaded.
loaded: list[Path] = []
failures: list[str] = []


def load(library: Path) -> None:
    """Register the operators in this process, once. Raises NativeError.

    Loading runs the library's code: it must come from `build`, or from a folder whose seal was checked.
    """
    import torch

    if loaded:
        return
    try:
        torch.ops.load_library(library)
    except (OSError, RuntimeError) as error:
        failures.append(f"{library} cannot be loaded: {str(error).splitlines()[0]}")
        raise NativeError(failures[-1]) from error
    loaded.append(library)


def has_amx() -> bool:
    """Return whether the loaded operators multiply by AMX: the processor has it, and it is not switched off."""
    import torch

    found: bool = torch.ops.bertstream.has_amx()
    return found
