"""Build and load operators.cpp and the headers beside it, importing torch only when it is needed.

The compiler is called directly: torch.utils.cpp_extension would need ninja, setuptools and Python's headers for the
same single command.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import cache as remember
from pathlib import Path

from bertstream.workers.native import prebuilt, processor
from bertstream.workers.native.prebuilt import Prebuilt, PrebuiltError
from bertstream.workers.native.processor import ProcessorError
from bertstream.workers.trust import store
from bertstream.workers.trust.ownership import check_way, make_folder
from bertstream.workers.trust.seal import Sealed

log = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("operators.cpp")
SWITCH = "BERTSTREAM_NATIVE"
# All of the environment that decides which operators there are, and which instructions they use.
SWITCHES = (SWITCH, processor.SWITCH, processor.AMX_SWITCH, processor.ATEN_SWITCH, "CXX")
BUILD_SECONDS = 300.0

# The compiler flags for torch's own vector types, for each set of instructions that has a library (processor.py).
_VECTOR_FLAGS = {
    "avx512": (
        *("-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw", "-mfma"),
        *("-DCPU_CAPABILITY_AVX512", "-DCPU_CAPABILITY=AVX512"),
    ),
    "avx2": ("-mavx2", "-mfma", "-mf16c", "-DCPU_CAPABILITY_AVX2", "-DCPU_CAPABILITY=AVX2"),
    processor.PORTABLE: ("-DCPU_CAPABILITY=DEFAULT",),
}
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
# What compilers say where a disk is full, or the kernel has killed a part of them for memory.
_PASSING = ("No space left on device", "Disk quota exceeded", "Killed signal terminated", "Cannot allocate memory")
_FROM_PACKAGE = "package."  # prefix of a folder with a copy of the package's


class NativeError(Exception):
    """The operators cannot be built or loaded; the message says why."""


class AbsentError(NativeError):
    """They are switched off, or the machine lacks what they need: so at each start, until that is changed."""


class PassingError(NativeError):
    """They could not be built this time, for what the machine lacked then: memory, or room on a disk."""


class ReadOnlyError(Exception):
    """The cache lacks operators and cannot be written to; the message is one line for people."""


@remember
def compiler() -> str:
    """Return the C++ compiler's path: $CXX, or the first of the usual ones. Raises AbsentError."""
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        if name and (found := shutil.which(name)):
            return found
    raise AbsentError("no C++ compiler found")


def status() -> tuple[bool, str]:
    """Return whether the operators can be used here, and why or why not, as far as this process knows.

    Loads no torch and builds nothing.
    """
    try:
        if failures:
            raise NativeError(failures[-1])
        _check_wanted()
        if _is_in_package():
            return True, "part of the package"
        return True, f"built by {compiler()}"
    except (NativeError, ProcessorError) as error:
        return False, str(error)


def _is_in_package() -> bool:
    with contextlib.suppress(PrebuiltError):
        return prebuilt.find(file_name(), source_hash()) is not None
    return False


def _check_wanted() -> None:
    if os.environ.get(SWITCH, "1") == "0":
        raise AbsentError(f"switched off by {SWITCH}=0")
    if os.name != "posix":
        raise AbsentError("only built on Linux and macOS")
    if not processor.flavour(processor.level()):
        if variable := processor.lowered_by():
            raise AbsentError(f"switched off by {variable}")
        raise AbsentError("the processor has no AVX2, without which the operators would be slower than ATen's")


def file_name() -> str:
    """Return the library's name for this processor; another one's instructions would kill the process.

    Raises ProcessorError.
    """
    return library_name(processor.flavour(processor.level()))


def library_name(flavour: str) -> str:
    """Return the name of the library with one set of instructions, on machines of this kind."""
    return f"operators.{platform.machine()}.{flavour}.so"


def source_hash() -> str:
    """Return a hash of the operators' source, headers included."""
    digest = hashlib.sha256()
    for path in (SOURCE, *sorted(SOURCE.parent.glob("*.h"))):
        digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def provide(cache: Path) -> Path:
    """Return the path of the library after it is built, as `build` does, and loaded.

    One of the package's that cannot be loaded is compiled instead. Raises as `build` does.
    """
    library = build(cache)
    try:
        load(library)
    except NativeError as error:
        if not library.parent.name.startswith(_FROM_PACKAGE):
            raise
        library = _compiled_instead(cache, error)
        load(library)
    return library


def build(cache: Path) -> Path:
    """Return the path of the library in `cache`: a copy of the package's if that fits, or else compiled.

    Nothing is done where it is there unchanged. Safe in several processes at once. Raises NativeError, TrustError where
    others may write to the cache, ReadOnlyError where nobody may, and ProcessorError.
    """
    with _failures_kept():
        _check_wanted()
        ready = _that_fits()
    if ready is None:
        return compiled(cache)
    try:
        return _copied(ready, cache)
    except PrebuiltError as error:
        return _compiled_instead(cache, error)


def _that_fits() -> Prebuilt | None:
    """Return the package's library, where it has one for this torch and processor."""
    try:
        return prebuilt.find(file_name(), source_hash())
    except PrebuiltError as error:
        log.info("%s; it is compiled here", error)
        return None


def _compiled_instead(cache: Path, why: Exception) -> Path:
    """Compile what the package brings but cannot be used, which is a failure where there is no compiler, too."""
    log.info("%s; it is compiled here", why)
    try:
        return compiled(cache)
    except AbsentError as error:
        failures.append(str(error))
        raise NativeError(str(error)) from error


def compiled(cache: Path) -> Path:
    """Return the path of the library, compiled into `cache` unless it is there unchanged. Raises as `build` does."""
    with _failures_kept():
        _check_wanted()
        command = compile_command(processor.flavour(processor.level()))
        place = cache / "native" / _key(command)
        with may_be_read_only(place, file_name()):
            return _made(place, lambda library: compile_library(command, library))


@contextlib.contextmanager
def _failures_kept() -> Iterator[None]:
    """Remember what has failed, for `status`, which finds by itself what is absent."""
    failures.clear()
    try:
        yield
    except AbsentError:
        raise
    except NativeError as error:
        failures.append(str(error))
        raise


@contextlib.contextmanager
def may_be_read_only(place: Path, name: str) -> Iterator[None]:
    """Word the error for people where a library of this name cannot be written to `place`. Raises ReadOnlyError."""
    try:
        yield
    except OSError as error:
        if error.errno not in _READ_ONLY:
            raise
        raise ReadOnlyError(
            f"the operators {name} are not in {place.parent}, which cannot be written to ({error.strerror}): fill the "
            "cache by bertstream compile where it can be, on a processor of this kind, or choose another by --cache"
        ) from error


def _copied(ready: Prebuilt, cache: Path) -> Path:
    """Copy the package's library to where nobody else can change it. Raises PrebuiltError."""
    place = cache / "native" / f"{_FROM_PACKAGE}{ready.sha256[:32]}"
    if not store.is_sound(place):
        content = ready.read()
        with may_be_read_only(place, file_name()), store.new(place) as folder:
            (folder / file_name()).write_bytes(content)
    return place / file_name()


def _made(place: Path, make: Callable[[Path], None]) -> Path:
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
        store.remove_unfinished(place)
        try:
            with store.new(place) as folder:
                make(folder / library.name)
        except PassingError:
            raise
        except NativeError as error:
            failure.write_text(str(error), encoding="utf-8")
            raise
    return library


def compile_command(flavour: str) -> tuple[str, ...]:
    """Return the compiler's command for one set of instructions, without its output. Raises NativeError."""
    import torch

    torch_folder = Path(torch.__file__).parent
    abi = int(torch.compiled_with_cxx11_abi())
    includes = (f"-I{torch_folder}/include", f"-I{torch_folder}/include/torch/csrc/api/include")
    # -fopenmp: at::parallel_for is a plain loop without it.
    flags = ("-std=c++20", "-O3", "-fPIC", "-shared", "-fopenmp", f"-D_GLIBCXX_USE_CXX11_ABI={abi}", "-w")
    links = (f"-L{torch_folder}/lib", "-ltorch_cpu", "-lc10")
    return (compiler(), *flags, *_VECTOR_FLAGS[flavour], *includes, str(SOURCE), *links)


def _key(command: tuple[str, ...]) -> str:
    import torch

    version = subprocess.run([compiler(), "--version"], capture_output=True, check=False).stdout
    digest = hashlib.sha256(version)
    digest.update("\0".join((*command, torch.__version__, source_hash())).encode())
    return digest.hexdigest()[:32]


def compile_library(command: tuple[str, ...], library: Path) -> None:
    """Run the compiler. Raises NativeError, a PassingError where the next attempt may well succeed."""
    try:
        done = subprocess.run(
            [*command, "-o", str(library)], capture_output=True, text=True, check=False, timeout=BUILD_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NativeError(f"{command[0]} did not finish: {error}") from error
    if done.returncode != 0:
        passing = done.returncode < 0 or any(each in done.stderr for each in _PASSING)
        raise (PassingError if passing else NativeError)(f"{command[0]} failed: {_first_error(done.stderr)}")


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


def load_sealed(library: Path | None) -> None:
    """Register the operators of a library that `build` has returned to another process, unless this one has them.

    Its folder's owners and its hash are checked just before. Raises NativeError, also where it is not for the
    processor that this is, TrustError and ProcessorError.
    """
    if loaded:
        return
    if library is None:
        raise NativeError("nobody has said where they are")
    if library.name != file_name():
        raise NativeError(f"{library} is for other instructions than this process may use: {processor.level()}")
    with Sealed.open(library.parent) as sealed:
        sealed.open_file(library.name).close()
    load(library)


def loaded_library() -> Path | None:
    """Return the library that this process has loaded, if any."""
    return loaded[0] if loaded else None


def has_amx() -> bool:
    """Return whether the loaded operators multiply by AMX: the processor has it, and it may be used."""
    import torch

    found: bool = torch.ops.bertstream.has_amx()
    return found


def has_bfloat16() -> bool:
    """Return whether the loaded operators multiply bfloat16 as it is, by AMX or AVX-512."""
    import torch

    found: bool = torch.ops.bertstream.has_bfloat16()
    return found


def has_vectors() -> bool:
    """Return whether the loaded operators multiply by AVX-512 or AVX2, where not by AMX."""
    import torch

    found: bool = torch.ops.bertstream.has_vectors()
    return found


def instructions() -> str:
    """Return which instructions the loaded operators use, such as "avx512+vnni"; empty where none are loaded."""
    import torch

    found: str = torch.ops.bertstream.instructions() if loaded else ""
    return found
