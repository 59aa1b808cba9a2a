"""The machine of a measurement, without anything that identifies its owner."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from bertstream.workers.native import processor

# What people call the levels of the operators, beside which no others are told apart.
KINDS = {
    "none": "no AVX2",
    "avx2": "AVX2",
    "avx512": "AVX-512",
    "vnni": "AVX-512 + VNNI",
    "bf16": "AVX-512 + VNNI + bfloat16",
    "amx": "AMX",
}
# The instructions that decide how fast matrix products are.
INSTRUCTIONS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine of one run."""

    processor: str
    cores: int  # the cores that this process may use
    memory_gib: float
    instructions: tuple[str, ...]
    gpu: str  # empty if none was used
    system: str
    python: str
    load: float  # the load average of the minute before the run, which should be near 0
    driver: str = ""  # of the GPU
    cuda: str = ""  # the version with which torch was built
    kind: str = ""  # which of the kinds of processors that have operators of their own: "AVX2", "AVX-512 + VNNI", "AMX"
    forced: bool = False  # whether it is a better one, which BERTSTREAM_CPU keeps to that kind
    busy: float = 0.0  # the part of all processors that others used before the run

    @property
    def slug(self) -> str:
        """A name for a folder, such as "intel-xeon-gold-6448y-2-cores"."""
        name = re.sub(r"\(.*?\)|@.*", " ", self.gpu or self.processor)
        kept = f" as {self.kind}" if self.forced else ""
        words = name if self.gpu else f"{name} {self.cores} cores{kept}"
        return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def describe(device: str) -> Machine:
    """Return this machine, with the cores that this process may use.

    Raises ValueError if there is no such device, ProcessorError where BERTSTREAM_CPU asks for what is not there.
    """
    gpu, driver, cuda = _gpu() if device == "cuda" else ("", "", "")
    information = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    flags = set(_field(information, "flags").split())
    return Machine(
        processor=_field(information, "model name") or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        instructions=tuple(name for name in INSTRUCTIONS if name in flags),
        gpu=gpu,
        system=f"{platform.system()} {platform.release().split('-')[0]}",
        python=platform.python_version(),
        load=os.getloadavg()[0],
        driver=driver,
        cuda=cuda,
        kind=KINDS.get(processor.level(), platform.machine()),
        forced=bool(processor.environment()),
    )


def own_versions() -> dict[str, str]:
    """Return the versions of bertstream and the packages that it runs on."""
    return {name: version(name) for name in ("bertstream", "torch", "grpcio", "tokenizers", "numpy")}


def _field(information: str, name: str) -> str:
    found = re.search(rf"^{name}\s*:\s*(.*)$", information, re.MULTILINE)
    return found[1].strip() if found else ""


def _gpu() -> tuple[str, str, str]:
    """Return the GPU's name and driver, and torch's CUDA."""
    import torch  # slow to import, and needed only for GPUs

    if not torch.cuda.is_available():
        raise ValueError(f"torch {torch.__version__} sees no CUDA device here; --device cpu measures the processor")
    return torch.cuda.get_device_name(0), driver_version(), torch.version.cuda or ""


def driver_version() -> str:
    """Return the driver's version, such as "570.86.15", or an empty string if it is unknown."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
