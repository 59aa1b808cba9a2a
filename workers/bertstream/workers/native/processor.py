"""Tell which instructions of the processor may be used, and force fewer of them. Needs no torch.

BERTSTREAM_CPU names the best ones that may be used; without it, all that the processor has.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

SWITCH = "BERTSTREAM_CPU"
AMX_SWITCH = "BERTSTREAM_AMX"
ATEN_SWITCH = "ATEN_CPU_CAPABILITY"  # torch's own
PORTABLE = "portable"  # of other makes than x86: what every one of them has

_VECTORS = frozenset({"avx2", "fma", "f16c"})
_WIDE = frozenset({"avx512f", "avx512dq", "avx512vl", "avx512bw"})


class ProcessorError(Exception):
    """The environment asks for instructions that there are not; the message is one line for people."""


@dataclass(frozen=True, slots=True)
class Level:
    """Describe one set of instructions, which has all of those before it, and how others are kept to it."""

    needs: frozenset[str]  # flags of /proc/cpuinfo, beside those of the levels before
    aten: str  # ATEN_CPU_CAPABILITY
    onednn: str  # ONEDNN_MAX_CPU_ISA
    mkl: str  # MKL_ENABLE_INSTRUCTIONS


# From the least to the best. What is in native/ looks at the last three by itself, while it runs.
LEVELS = {
    "none": Level(frozenset(), "default", "SSE41", "SSE4_2"),
    "avx2": Level(_VECTORS, "avx2", "AVX2", "AVX2"),
    "avx512": Level(_WIDE, "avx512", "AVX512_CORE", "AVX512"),
    "vnni": Level(frozenset({"avx512_vnni"}), "avx512", "AVX512_CORE_VNNI", "AVX512_E1"),
    "bf16": Level(frozenset({"avx512_bf16"}), "avx512", "AVX512_CORE_BF16", "AVX512_E3"),
    "amx": Level(frozenset({"amx_tile", "amx_bf16", "amx_int8"}), "avx512", "AVX512_CORE_AMX", "AVX512_E4"),
}
_ORDER = tuple(LEVELS)
# Of processors whose level is AVX2: VNNI without AVX-512. It is no level, since it is not one of those of "avx512".
_AVX_VNNI = "avx_vnni"
# The operators for each level; those of "portable" have its own name.
_FLAVOURS = {
    "avx2": "avx2",
    "avx512": "avx512",
    "vnni": "avx512",
    "bf16": "avx512",
    "amx": "avx512",
    PORTABLE: PORTABLE,
}


def flags(path: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Return what the kernel says that the processor has, and that programs may use; empty where it does not say."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())


def best_of(found: Collection[str]) -> str:
    """Return the best level whose flags, and those of all levels below it, are among those found."""
    best = _ORDER[0]
    for name, level in LEVELS.items():
        if not level.needs <= set(found):
            break
        best = name
    return best


def limit(environment: Mapping[str, str]) -> str:
    """Return the best level that the environment allows: "amx" where it says nothing. Raises ProcessorError."""
    return min(("amx", *_limits(environment).values()), key=_ORDER.index)


def _limits(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the best level that each of the variables allows, of those that limit it."""
    limits = {}
    if asked := environment.get(SWITCH, ""):
        if asked not in LEVELS:
            raise ProcessorError(f"{SWITCH}={asked} is not one of {', '.join(LEVELS)}")
        limits[SWITCH] = asked
    if environment.get(AMX_SWITCH, "").startswith("0"):
        limits[AMX_SWITCH] = "bf16"
    if of_aten := {"avx2": "avx2", "default": "none"}.get(environment.get(ATEN_SWITCH, "")):
        limits[ATEN_SWITCH] = of_aten
    return limits


def lowered_by() -> str:
    """Return the variable, as "NAME=value", that keeps the level below the processor's; empty where none does.

    Raises ProcessorError.
    """
    if level() in (PORTABLE, best_of(flags())):
        return ""
    limits = _limits(os.environ)
    name = min(limits, key=lambda each: _ORDER.index(limits[each]))
    return f"{name}={os.environ[name]}"


def level() -> str:
    """Return the level to use here: "portable" on other makes than x86. Raises ProcessorError."""
    wanted = os.environ.get(SWITCH, "")
    if not is_x86():
        if wanted:
            raise ProcessorError(f"{SWITCH}={wanted} is for x86 processors, and this one is {platform.machine()}")
        return PORTABLE
    best, allowed = best_of(flags()), limit(os.environ)
    if wanted and _ORDER.index(wanted) > _ORDER.index(best):
        has = ", ".join(_ORDER[: _ORDER.index(best) + 1])
        raise ProcessorError(f"{SWITCH}={wanted} asks for what this processor does not have; choose one of {has}")
    return min(best, allowed, key=_ORDER.index)


def is_x86() -> bool:
    """Return whether the processor is one that has levels."""
    return platform.machine() in ("x86_64", "AMD64")


def flavour(of: str) -> str:
    """Return the name of the operators for a level; empty where there are none."""
    return _FLAVOURS.get(of, "")


def environment() -> dict[str, str]:
    """Return what keeps the operators, torch and its libraries to the level in effect, for processes that are started.

    Empty where that is all that the processor has. Raises ProcessorError.
    """
    kept = level()
    if not (lowered_by() or _is_without_avx_vnni(kept)):
        return {}
    # Where there are no operators to be kept to it, the reason for that is the variable that is set already.
    own = {SWITCH: kept} if flavour(kept) else {}
    return own | {
        ATEN_SWITCH: LEVELS[kept].aten,
        "ONEDNN_MAX_CPU_ISA": LEVELS[kept].onednn,
        "MKL_ENABLE_INSTRUCTIONS": LEVELS[kept].mkl,
    }


def _is_without_avx_vnni(kept: str) -> bool:
    """Return whether "avx2" is asked for on a processor that has VNNI beside it, which is then not used."""
    return kept == "avx2" and bool(os.environ.get(SWITCH)) and _AVX_VNNI in flags()
