"""Remember what torch has said of this machine, so that a model that is compiled already is found without torch.

    <cache>/targets/<hash of the circumstances and the precision>/target.json

Which operators a program is compiled for depends on the processor, torch, the C++ compiler and the environment. torch
alone can say which they are, but that it would say the same again can be told without it: where nothing of all that has
changed. GPUs are not among it: where there may be any, nothing is recalled.
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
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from bertstream.workers.compile.revisions import code_hash, hash_files
from bertstream.workers.native.library import SWITCHES, NativeError, compiler
from bertstream.workers.trust import store
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

        A record that is not as it was written is put aside. Raises TrustError where others may write to the cache.
        """
        place = self._place(dtype)
        if not self.circumstances or not os.path.lexists(place):
            return None
        try:
            with Sealed.open(place) as sealed:
                return KnownTarget(**json.loads(sealed.read(_FILE_NAME)))
        except SealError as error:
            store.put_aside(place, str(error))
            return None

    def remember(self, dtype: str, target: KnownTarget) -> None:
        """Write a record for later starts, which do without it where it cannot be written, as in a read-only cache."""
        place = self._place(dtype)
        if not self.circumstances or os.path.lexists(place):
            return
        with suppress(OSError), store.new(place) as folder:
            (folder / _FILE_NAME).write_text(json.dumps(asdict(target)), encoding="utf-8")

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
