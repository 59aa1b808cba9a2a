"""Measure how many multiply-and-adds a core does when it has nothing to load: the ceiling of any product of float32."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.peers.timing import best
from bertstream.workers import native

LOOPS = 1_000_000
CHAINS = 10  # independent of each other, since each multiply-and-add waits for its own chain's last
# The registers' name and the numbers that one holds.
REGISTERS = {"AVX512": ("zmm", 16), "AVX2": ("ymm", 8)}


def gflops() -> float:
    """Return the peak of one core in GFLOP/s, by the vectors that torch uses; 0 where these are not x86's."""
    name, lanes = REGISTERS.get(torch.backends.cpu.get_cpu_capability(), ("", 0))
    if not name:
        return 0.0
    adds = "".join(f"vfmadd231ps %%{name}14, %%{name}15, %%{name}{i}\\n" for i in range(CHAINS))
    zeros = "".join(f"vxorps %%xmm{i}, %%xmm{i}, %%xmm{i}\\n" for i in (*range(CHAINS), 14, 15))
    clobbered = ", ".join(f'"xmm{i}"' for i in (*range(CHAINS), 14, 15))
    source = (
        f'extern "C" void run() {{ asm volatile("{zeros}" ::: {clobbered}); for (int i = 0; i < {LOOPS}; ++i) '
        f'asm volatile("{adds}" ::: {clobbered}); asm volatile("vzeroupper"); }}'
    )
    with TemporaryDirectory() as folder:
        library = Path(folder) / "peak.so"
        command = [
            native.compiler(),
            "-O2",
            "-shared",
            "-fPIC",
            "-mavx2",
            "-mfma",
            "-x",
            "c++",
            "-",
            "-o",
            str(library),
        ]
        subprocess.run(command, input=source, text=True, check=True)
        run = ctypes.CDLL(str(library)).run
        seconds = best({"peak": run}, 20)["peak"]
    return 2e-9 * lanes * CHAINS * LOOPS / seconds
