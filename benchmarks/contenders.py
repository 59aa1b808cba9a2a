"""Who is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

Environment = Literal["own", "peers", "infinity"]  # whose Python runs the adapter
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
    precision: str = ""  # empty for what suits the device: float32 on the CPU, float16 on CUDA
    options: Mapping[str, str] = field(default_factory=dict)
    serve: tuple[str, ...] | None = None  # flags of the bertstream server that it needs
    parts: tuple[Part, ...] = _USUAL  # in which it is measured
    clients: int = 1  # at least so many processes send to it in bulk
    a_core_each: bool = False  # a process of one thread for each core, as bertstream's workers are by default
    quick: bool = True  # in quick mode too
    device: str = ""  # only there; empty for any

    @property
    def peer(self) -> bool:
        """Whether somebody else made it."""
        return self.environment != "own"


def _served(name: str, precision: str = "", *, parts: tuple[Part, ...] = _ALL, quick: bool = True) -> Contender:
    return Contender(name, "grpc_client", "own", precision, {}, _dtype(precision), parts, quick=quick, device="cpu")


def _on_gpu(name: str, adapter: str, precision: str = "", *, parts: tuple[Part, ...] = _ALL) -> Contender:
    return Contender(name, adapter, "own", precision, {}, _dtype(precision), parts, device="cuda")


def _dtype(precision: str) -> tuple[str, ...]:
    return ("--dtype", precision) if precision else ()


def _frontends(number: int, adapter: str, device: str) -> Contender:
    # One stream keeps one frontend busy, so there are two.
    flags = ("--frontends", str(number))
    name = f"bertstream, {number} frontend{'s' if number > 1 else ''}"
    return Contender(name, adapter, serve=flags, parts=("frontends",), clients=2, device=device)


def _own(
    name: str, adapter: str, precision: str = "", *, parts: tuple[Part, ...] = _USUAL, quick: bool = True
) -> Contender:
    """A core each. Without a precision on a GPU, too, then in one process."""
    device = "cpu" if precision else ""
    return Contender(name, adapter, precision=precision, parts=parts, a_core_each=True, quick=quick, device=device)


def _one_batch(name: str, adapter: str, precision: str = "") -> Contender:
    """256 texts of 128 tokens are one batch there, which is what a GPU's engine is held against its floor by."""
    options = {"batch_tokens": str(256 * 128)}
    return Contender(name, adapter, "own", precision, options, None, ("batch",), device="cuda")


def _one(name: str, adapter: str, serve: tuple[str, ...] | None = None) -> Contender:
    """All threads for one text."""
    return Contender(name, adapter, serve=serve, parts=("single",), device="cpu")


_NO_VECTORS: tuple[Part, ...] = ("bulk", "single")
CONTENDERS = (
    _served("bertstream"),
    _one("bertstream, 1 worker", "grpc_client", ("--workers", "1")),
    _served("bertstream int8", "int8"),
    _served("bertstream bfloat16", "bfloat16", parts=("bulk", "single", "calls", "quality"), quick=False),
    _on_gpu("bertstream", "grpc_prepared"),
    _on_gpu("bertstream fp8", "grpc_prepared", "fp8", parts=("bulk", "single", "quality")),
    _on_gpu("bertstream by the SDK", "grpc_client", parts=("bulk",)),
    *(_frontends(number, "grpc_client", "cpu") for number in (1, 2)),
    *(_frontends(number, "grpc_prepared", "cuda") for number in (2, 4, 8)),
    _own("engine", "engine"),
    _one("engine, 1 process", "engine"),
    _own("engine int8", "engine", "int8"),
    _own("engine bfloat16", "engine", "bfloat16", quick=False),
    Contender("engine fp8", "engine", precision="fp8", device="cuda"),
    _one_batch("engine, 256 texts", "engine"),
    _one_batch("engine fp8, 256 texts", "engine", "fp8"),
    _own("floor", "floor", parts=_NO_VECTORS),
    _own("floor int8", "floor", "int8", parts=_NO_VECTORS),
    _own("floor bfloat16", "floor", "bfloat16", parts=_NO_VECTORS, quick=False),
    _one("floor, 1 process", "floor"),
    _one_batch("floor, 256 texts", "floor"),
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

BASELINE = "sentence-transformers"  # whom ratios are to
REFERENCE = Contender(
    "transformers float32", "transformers_sdpa", precision="float32"
)  # whose vectors are the true ones


def chosen(
    device: str, quick: bool, only: Sequence[str], skip: Sequence[str], parts: Sequence[Part] = PARTS[:-1]
) -> list[Contender]:
    """Those to measure in any of the parts; `only` and `skip` are beginnings of names. Raises ValueError for one that
    fits none.
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
    """Of all of them, on either device."""
    return list(dict.fromkeys(each.name for each in CONTENDERS))


def precision(contender: Contender, device: str) -> str:
    """What it computes in."""
    return contender.precision or {"cpu": "float32", "cuda": "float16"}[device]


def _fits(contender: Contender, prefixes: Sequence[str]) -> bool:
    return any(contender.name.lower().startswith(prefix.lower()) for prefix in prefixes)
