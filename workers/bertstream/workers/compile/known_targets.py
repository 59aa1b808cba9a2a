"""Remember what torch has said of this machine, so that a model that is compiled already is found without torch.

    <cache>/targets/<hash of the circumstances and the precision>/target.json

Which operators a program is compiled for depends on the processor, torch, the C++ compiler and the environment. torch
and the operators say which they are, and that they would say the same again can be told without them: where nothing of
all that has changed. GPUs are not among it: where there may be any, nothing is recalled.

A record names the library of operators by its place below <cache>/native, so that a cache can be moved and copied.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import json
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path, PurePath

from bertstream.workers.compile.revisions import code_hash, hash_files
from bertstream.workers.native.library import SWITCHES, NativeError, compiler
from bertstream.workers.trust import store
from bertstream.workers.trust.ownership import TrustError
from bertstream.workers.trust.seal import Sealed, SealError

_FILE_NAME = "target.json"
PROCESSORS = Path("/proc/cpuinfo")
# Of /proc/cpuinfo, what says which instructions there are and how fast; the rest differs from core to core.
_KINDS = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags")
_KINDS_OF_ARM = ("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features")
CUDA_DRIVER = "libcuda.so.1"


@dataclass(frozen=True, slots=True)
class KnownTarget:
    """Hold what a program for the CPU is compiled for in one precision."""

    torch_version: str
    identity: str  # of a Target
    operators: str  # "native", or the reason why not
    library: str = ""  # of C++ operators, which workers load; "" where there is none
    instructions: str = ""  # that these use, such as "avx512+vnni"


@dataclass(frozen=True, slots=True)
class KnownTargets:
    """Hold what is remembered in a cache of targets in some circumstances; nothing where these are ""."""

    cache: Path
    circumstances: str

    @classmethod
    def here(cls, cache: Path) -> KnownTargets:
        """Return what is remembered of targets here, as things stand now."""
        return cls(cache, circumstances_here())

    def recall(self, dtype: str) -> KnownTarget | None:
        """Return the target of a precision; None where it is not known.

        A record that is not as it was written, or that names a library outside of the cache, is put aside. Raises
        TrustError where others may write to the cache.
        """
        place = self._place(dtype)
        if not self.circumstances or not os.path.lexists(place):
            return None
        try:
            with Sealed.open(place) as sealed:
                return self._joined(KnownTarget(**json.loads(sealed.read(_FILE_NAME))))
        except SealError as error:
            store.put_aside(place, str(error))
        except (ValueError, TypeError) as error:
            store.put_aside(place, f"{place / _FILE_NAME} is of no use ({error})")
        return None

    def remember(self, dtype: str, target: KnownTarget) -> None:
        """Write a record for later starts, in place of one that says otherwise.

        They do without it where it cannot be written, as in a read-only cache, or the library is not in the cache.
        """
        place = self._place(dtype)
        if not self.circumstances or self.recall(dtype) == target:
            return
        with suppress(OSError, ValueError, TrustError):
            record = json.dumps(asdict(self._relative(target)))
            if os.path.lexists(place):
                store.put_aside(place, f"{place / _FILE_NAME} says otherwise than torch does now")
            with store.new(place) as folder:
                (folder / _FILE_NAME).write_text(record, encoding="utf-8")

    def _relative(self, target: KnownTarget) -> KnownTarget:
        """Name the library by its place below the cache's. Raises ValueError where it is elsewhere."""
        if not target.library:
            return target
        return replace(target, library=str(Path(target.library).relative_to(self._native)))

    def _joined(self, target: KnownTarget) -> KnownTarget:
        """Undo `_relative`. Raises ValueError where that would lead out of the cache."""
        if not target.library:
            return target
        below = PurePath(target.library)
        if below.is_absolute() or len(below.parts) != 2 or ".." in below.parts:  # a sealed folder and a file in it
            raise ValueError(f"the library {below} is not one of {self._native}")
        return replace(target, library=str(self._native / below))

    @property
    def _native(self) -> Path:
        return self.cache / "native"

    def _place(self, dtype: str) -> Path:
        return self.cache / "targets" / hashlib.sha256(f"{self.circumstances} {dtype}".encode()).hexdigest()[:32]


def circumstances_here() -> str:
    """Return a hash of all that decides on targets for the CPU; "" where torch is needed to tell."""
    try:
        folder = _torch_folder()
        if may_have_gpus(folder):
            return ""
        return hashlib.sha256("\0".join(_circumstances(folder)).encode()).hexdigest()
    except (OSError, metadata.PackageNotFoundError):
        return ""


def _torch_folder() -> Path:
    """Return torch's folder without running its code. Raises PackageNotFoundError."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise metadata.PackageNotFoundError("torch")
    return Path(spec.origin).parent


def may_have_gpus(torch_folder: Path) -> bool:
    """Return whether torch may see GPUs here; False only where it surely sees none."""
    libraries = torch_folder / "lib"
    if not (libraries / "libtorch_cpu.so").exists() or (libraries / "libtorch_hip.so").exists():
        return True
    return (libraries / "libtorch_cuda.so").exists() and _has_cuda_driver()


def _has_cuda_driver() -> bool:
    try:
        ctypes.CDLL(CUDA_DRIVER)
    except OSError:
        return False
    return True


def _circumstances(torch_folder: Path) -> Iterator[str]:
    yield from (platform.machine(), platform.release(), *_processor())
    yield from (metadata.version("torch"), str(torch_folder))
    yield str((torch_folder / "version.py").stat().st_mtime_ns)  # of another build of the same version
    yield from _switches()
    yield _compiler()
    native = Path(__file__).parents[1] / "native"
    yield code_hash()
    yield hash_files(path for path in native.rglob("*") if path.suffix in (".py", ".so"))


def _processor() -> Iterator[str]:
    """Yield the lines that say which kind the first processor is. Raises OSError where the system has none."""
    first = PROCESSORS.read_text(encoding="utf-8").partition("\n\n")[0]
    for line in first.splitlines():
        if line.partition(":")[0].strip() in (*_KINDS, *_KINDS_OF_ARM):
            yield line


def _switches() -> Iterator[str]:
    yield from (f"{name}={os.environ[name]}" for name in SWITCHES if name in os.environ)


def _compiler() -> str:
    try:
        command = [compiler(), "--version"]
    except NativeError as error:
        return str(error)
    return f"{command[0]} {subprocess.run(command, capture_output=True, text=True, check=False).stdout}"
