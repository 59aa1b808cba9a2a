"""Who is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Environment = Literal["own", "peers", "infinity"]  # whose Python runs the adapter


@dataclass(frozen=True, slots=True)
class Contender:
    """One row of the table."""

    name: str
    adapter: str  # a module of benchmarks.peers
    environment: Environment = "own"
    precision: str = ""  # empty for what suits the device: float32 on the CPU, float16 on CUDA
    options: Mapping[str, str] = field(default_factory=dict)
    serve: tuple[str, ...] | None = None  # flags of the bertstream server that it needs
    a_core_each: bool = False  # a process of one thread for each core, as bertstream's workers are by default
    bulk: bool = True  # measured with many texts
    calls: bool = False  # measured with several calls at once
    mixed: bool = False  # measured with calls while a stream saturates it
    vectors: bool = True  # has vectors to compare
    quick: bool = True  # in quick mode too
    device: str = ""  # only there; empty for any


def _bertstream(name: str, precision: str, *, quick: bool) -> Contender:
    flags = ("--dtype", precision)
    return Contender(
        name, "grpc_client", precision=precision, serve=flags, calls=True, mixed=True, quick=quick, device="cpu"
    )


CONTENDERS = (
    Contender("bertstream", "grpc_client", serve=(), calls=True, mixed=True),
    Contender("bertstream, 1 worker", "grpc_client", serve=("--workers", "1"), bulk=False, vectors=False, device="cpu"),
    _bertstream("bertstream int8", "int8", quick=True),
    _bertstream("bertstream bfloat16", "bfloat16", quick=False),
    Contender("engine", "engine", a_core_each=True),
    Contender("engine, 1 process", "engine", bulk=False, vectors=False, device="cpu"),
    Contender("engine int8", "engine", precision="int8", a_core_each=True, device="cpu"),
    Contender("engine bfloat16", "engine", precision="bfloat16", a_core_each=True, quick=False, device="cpu"),
    Contender("floor", "floor", a_core_each=True, vectors=False),
    Contender("floor int8", "floor", precision="int8", a_core_each=True, vectors=False, device="cpu"),
    Contender(
        "floor bfloat16", "floor", precision="bfloat16", a_core_each=True, vectors=False, quick=False, device="cpu"
    ),
    Contender("floor, 1 process", "floor", bulk=False, vectors=False, device="cpu"),
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
    Contender("infinity", "infinity", "infinity", calls=True),
)

BASELINE = "sentence-transformers"  # whom ratios are to
REFERENCE = Contender(
    "transformers float32", "transformers_sdpa", precision="float32"
)  # whose vectors are the true ones


def chosen(device: str, quick: bool, only: list[str], skip: list[str]) -> list[Contender]:
    """Those to measure; `only` and `skip` are beginnings of names. Raises ValueError for one that fits none."""
    for prefix in (*only, *skip):
        if not any(_fits(each, [prefix]) for each in CONTENDERS):
            raise ValueError(
                f"there is no contender {prefix!r}; there are {', '.join(each.name for each in CONTENDERS)}"
            )
    return [
        each
        for each in CONTENDERS
        if each.device in ("", device)
        and (each.quick or not quick or _fits(each, only))
        and (not only or _fits(each, only))
        and not _fits(each, skip)
    ]


def precision(contender: Contender, device: str) -> str:
    """What it computes in."""
    return contender.precision or {"cpu": "float32", "cuda": "float16"}[device]


def _fits(contender: Contender, prefixes: list[str]) -> bool:
    return any(contender.name.lower().startswith(prefix.lower()) for prefix in prefixes)
