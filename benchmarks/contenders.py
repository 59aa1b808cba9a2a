"""The contenders that are measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

Environment = Literal["own", "peers", "infinity"]  # the environment whose Python runs the adapter
Part = Literal["bulk", "batch", "single", "calls", "mixed", "quality", "frontends"]
PARTS: tuple[Part, ...] = get_args(Part)
_USUAL: tuple[Part, ...] = ("bulk", "single", "quality")
_ALL: tuple[Part, ...] = ("bulk", "single", "calls", "mixed", "quality")


@dataclass(frozen=True, slots=True)
class Contender:
    """One row of the table."""

    name: str
    adapter: str  # a module of benchmarks.peers
    environment: Environment = "own"
    precision: str = ""  # empty for the device's default: float32 on the CPU, float16 on CUDA
    options: Mapping[str, str] = field(default_factory=dict)
    serve: tuple[str, ...] | None = None  # flags of the bertstream server that it needs, besides the precision's
    parts: tuple[Part, ...] = _USUAL  # the parts in which it is measured
    clients: int = 1  # the least number of processes that send to it in bulk
    a_core_each: bool = False  # a process of one thread for each core, as bertstream's workers are by default
    quick: bool = True  # whether it is measured in quick mode too
    device: str = ""  # the only device where it is measured; empty for any

    @property
    def peer(self) -> bool:
        """Whether it is another project's."""
        return self.environment != "own"


def _frontends(number: int, adapter: str, device: str) -> Contender:
    # One stream keeps one frontend busy, so there are two.
    flags = ("--frontends", str(number))
    name = f"bertstream, {number} frontend{'s' if number > 1 else ''}"
    return Contender(name, adapter, serve=flags, parts=("frontends",), clients=2, device=device)


_SDK, _MADE_AHEAD = "grpc_client", "grpc_prepared"
_BFLOAT16: tuple[Part, ...] = ("bulk", "single", "calls", "quality")
_FLOOR = Contender("floor", "floor", parts=("bulk", "single"), a_core_each=True)
# Here 256 texts of 128 tokens are one batch, in which a GPU's engine is compared with its floor.
_ONE_BATCH = {"batch_tokens": str(256 * 128)}
CONTENDERS = (
    Contender("bertstream", _SDK, serve=(), parts=_ALL, device="cpu"),
    Contender("bertstream, 1 worker", _SDK, serve=("--workers", "1"), parts=("single",), device="cpu"),
    Contender("bertstream int8", _SDK, precision="int8", serve=(), parts=_ALL, device="cpu"),
    Contender("bertstream bfloat16", _SDK, precision="bfloat16", serve=(), parts=_BFLOAT16, quick=False, device="cpu"),
    Contender("bertstream", _MADE_AHEAD, serve=(), parts=_ALL, device="cuda"),
    Contender("bertstream fp8", _MADE_AHEAD, precision="fp8", serve=(), device="cuda"),
    Contender("bertstream by the SDK", _SDK, serve=(), parts=("bulk",), device="cuda"),
    *(_frontends(number, _SDK, "cpu") for number in (1, 2)),
    *(_frontends(number, _MADE_AHEAD, "cuda") for number in (2, 4, 8)),
    Contender("engine", "engine", a_core_each=True),
    Contender("engine, 1 process", "engine", parts=("single",), device="cpu"),
    Contender("engine int8", "engine", precision="int8", a_core_each=True, device="cpu"),
    Contender("engine bfloat16", "engine", precision="bfloat16", a_core_each=True, quick=False, device="cpu"),
    Contender("engine fp8", "engine", precision="fp8", device="cuda"),
    Contender("engine, 256 texts", "engine", options=_ONE_BATCH, parts=("batch",), device="cuda"),
    Contender("engine fp8, 256 texts", "engine", "own", "fp8", _ONE_BATCH, parts=("batch",), device="cuda"),
    _FLOOR,
    replace(_FLOOR, name="floor int8", precision="int8", device="cpu"),
    replace(_FLOOR, name="floor bfloat16", precision="bfloat16", quick=False, device="cpu"),
    Contender("floor, 1 process", "floor", parts=("single",), device="cpu"),
    Contender("floor, 256 texts", "floor", options=_ONE_BATCH, parts=("batch",), device="cuda"),
    Contender("sentence-transformers", "sentence_transformers_encode", "peers"),
    Contender("transformers sdpa", "transformers_sdpa", "peers"),
    Contender("ONNX Runtime", "onnx_runtime", "peers"),
    Contender("ONNX Runtime int8 dynamic", "onnx_runtime", "peers", "int8", {"way": "int8-dynamic"}),
    Contender("ONNX Runtime int8 static", "onnx_runtime", "peers", "int8", {"way": "int8-static"}),
    Contender("OpenVINO", "open_vino", "peers"),
    Contender("OpenVINO int8", "open_vino", "peers", "int8"),
    Contender("OpenVINO bfloat16", "open_vino", "peers", "bfloat16", quick=False),
    Contender("CTranslate2", "ctranslate", "peers"),
    Contender("CTranslate2 int8", "ctranslate", "peers", "int8"),
    Contender("infinity", "infinity", "infinity", parts=("bulk", "single", "calls", "quality")),
)

BASELINE = "sentence-transformers"  # the contender to which ratios are given
# The contender whose vectors count as exact.
REFERENCE = Contender("transformers float32", "transformers_sdpa", precision="float32")


def chosen(
    device: str, quick: bool, only: Sequence[str], skip: Sequence[str], parts: Sequence[Part] = PARTS[:-1]
) -> list[Contender]:
    """Return the contenders to measure in any of the parts; `only` and `skip` are beginnings of names.

    Raises ValueError for a beginning that fits no contender.
    """
    for prefix in (*only, *skip):
        if not any(_fits(each, [prefix]) for each in CONTENDERS):
            raise ValueError(f"there is no contender {prefix!r}; there are {', '.join(names())}")
    return [
        each
        for each in CONTENDERS
        if each.device in ("", device)
        and not set(parts).isdisjoint(each.parts)
        and (each.quick or not quick or _fits(each, only))
        and (not only or _fits(each, only))
        and not _fits(each, skip)
    ]


def names() -> list[str]:
    """Return the names of all contenders, on either device."""
    return list(dict.fromkeys(each.name for each in CONTENDERS))


def precision(contender: Contender, device: str) -> str:
    """Return the precision in which a contender computes."""
    return contender.precision or {"cpu": "float32", "cuda": "float16"}[device]


def _fits(contender: Contender, prefixes: Sequence[str]) -> bool:
    return any(contender.name.lower().startswith(prefix.lower()) for prefix in prefixes)
