"""What a measurement was made on, without anything that names the machine's owner."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

# That decide how fast matrix products are.
INSTRUCTIONS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


@dataclass(frozen=True, slots=True)
class Machine:
    """Of one run."""

    processor: str
    cores: int  # that were used
    memory_gib: float
    instructions: tuple[str, ...]
    gpu: str  # empty where none was used
    system: str
    python: str
    load: float  # runnable processes before the run, in the last minute: should be near 0
    driver: str = ""  # of the GPU
    cuda: str = ""  # that torch was built with

    @property
    def slug(self) -> str:
        """For the name of a folder, such as "intel-xeon-gold-6448y-2-cores"."""
        name = re.sub(r"\(.*?\)|@.*", " ", self.gpu or self.processor)
        words = name if self.gpu else f"{name} {self.cores} cores"
        return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def describe(device: str) -> Machine:
    """This machine, with the cores that this process may use. Raises ValueError where there is no such device."""
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
    )


def own_versions() -> dict[str, str]:
    """Of what bertstream runs on."""
    return {name: version(name) for name in ("bertstream", "torch", "grpcio", "tokenizers", "numpy")}


def _field(information: str, name: str) -> str:
    found = re.search(rf"^{name}\s*:\s*(.*)$", information, re.MULTILINE)
    return found[1].strip() if found else ""


def _gpu() -> tuple[str, str, str]:
    """Its name, its driver, and torch's CUDA."""
    import torch  # slow to import, and needed for GPUs only

    if not torch.cuda.is_available():
        raise ValueError(f"torch {torch.__version__} sees no CUDA device here; --device cpu measures the processor")
    return torch.cuda.get_device_name(0), driver_version(), torch.version.cuda or ""


def driver_version() -> str:
    """Such as "570.86.15"; "" where nobody says."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
