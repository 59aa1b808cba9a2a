"""Compile models in a process of its own, so that its supervisor never loads torch, nor this process without need.

Run as `python -m bertstream.workers.compile.compiling NAME CONTROL_FD`; its settings are a CompileTask.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bertstream.workers.compile import revisions, sources
from bertstream.workers.compile.known_targets import KnownTarget, KnownTargets
from bertstream.workers.process.control import Failed, Progress, Ready, begin
from bertstream.workers.trust import store
from bertstream.workers.trust.ownership import TrustError

if TYPE_CHECKING:
    from bertstream.workers.compile.targets import Target

log = logging.getLogger(__name__)

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
EMBEDDED_NAME = "all-MiniLM-L6-v2"


@dataclass(frozen=True, slots=True)
class CompileModel:
    """Name one model to compile, and what to compile it for."""

    name: str  # shown to people
    source: str  # a hub name or a directory; "" is the embedded model
    device: str  # "auto", "cpu", "cuda", "cuda:1"
    dtype: str  # "auto", "float32", "float16", "bfloat16", on the CPU "int8", on CUDA "fp8"
    hub: bool = False  # look on the hub alone, not for a directory of that name
    task: str = ""  # as compile_model takes it
    allow_unsupported_modules: bool = False


@dataclass(frozen=True, slots=True)
class CompileTask:
    """Say what to compile."""

    models: tuple[CompileModel, ...]
    cache: str  # "" is the default one
    log_level: str = "info"


@dataclass(frozen=True, slots=True)
class CompileStep:
    """Say how far a task is."""

    source: str  # the model's name, as shown to people
    step: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class CompiledModel:
    """Describe one compiled model."""

    directory: str
    device: str  # "cpu" or "cuda"
    dtype: str
    seconds: float = field(default=0.0, compare=False)  # that it took, also to find it in the cache
    operators: str = ""  # the library of C++ operators that its workers load; "" where there is none
    cpu_instructions: str = ""  # that they use, such as "avx512+vnni"; "" where there are none, and on CUDA


@dataclass(frozen=True, slots=True)
class Compiled:
    """Describe what a task has compiled."""

    models: tuple[CompiledModel, ...]  # in the task's order
    devices: int  # the number of GPUs
    operators: str  # "native", or the reason why not


Tell = Callable[[CompileStep], None]
Resolve = Callable[[CompileModel], Path]


def compile_all(task: CompileTask, tell: Tell) -> Compiled:
    """Compile each model that the cache lacks, and load torch, which takes seconds, only where it lacks any.

    Raises CheckpointError; before any work, ValueError for a device that is not there, or one that has no such
    precision.
    """
    known = KnownTargets.here(Path(task.cache) if task.cache else revisions.default_cache())

    @functools.cache
    def resolve(model: CompileModel) -> Path:
        if model.hub:
            return sources.from_hub(model.source)
        return sources.resolve(model.source or sources.embedded())

    return find_compiled(task, known, resolve, tell) or _compile_what_is_lacking(task, known, resolve, tell)


def find_compiled(task: CompileTask, known: KnownTargets, resolve: Resolve, tell: Tell) -> Compiled | None:
    """Return what is compiled already; None where that is not all, or nothing is known of a target."""
    if not known.circumstances:
        return None
    models, reasons = [], ["native"]
    dtypes = [choose_target(each, gpus=0)[1] for each in task.models]
    for model, dtype in zip(task.models, dtypes, strict=True):
        target = known.recall(dtype)
        found = None if target is None else _find_one(model, target, dtype, known.cache, resolve, tell)
        if target is None or found is None:
            return None
        models.append(found)
        reasons.append(target.operators)
    return Compiled(tuple(models), 0, next((each for each in reasons if each != "native"), "native"))


def _find_one(
    model: CompileModel, target: KnownTarget, dtype: str, cache: Path, resolve: Resolve, tell: Tell
) -> CompiledModel | None:
    started, progress = time.monotonic(), _progress(model, tell)
    progress("find", 0, 1)
    checkpoint, options = resolve(model), _options(model)
    revision = revisions.revision_of(checkpoint, target.torch_version, target.identity, progress, options)
    folder = revisions.model_folder(cache, revision)
    if (target.library and not store.is_sound(Path(target.library).parent)) or not store.is_sound(folder):
        return None
    progress("ready", 1, 1)
    return _described(folder, "cpu", dtype, started, target)


def _compile_what_is_lacking(task: CompileTask, known: KnownTargets, resolve: Resolve, tell: Tell) -> Compiled:
    import torch

    from bertstream.workers import native

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    chosen = [choose_target(each, gpus) for each in task.models]
    for each, (_, dtype) in zip(task.models, chosen, strict=True):
        if dtype == "fp8":
            _check_float8(each, gpus)
    models = []
    for each, (device, dtype) in zip(task.models, chosen, strict=True):
        models.append(_compile(each, device, dtype, known, resolve, tell))
    in_use, reason = native.status()
    return Compiled(tuple(models), gpus, "native" if in_use else reason)


def _check_float8(model: CompileModel, gpus: int) -> None:
    """Check every GPU that the model's workers may use. Raises ValueError."""
    import torch

    from bertstream.workers.programs import gpu_products

    _, _, index = model.device.partition(":")
    for gpu in [int(index)] if index else range(gpus):
        if reason := gpu_products.float8_problem(torch.device("cuda", gpu)):
            advice = "choose another precision, or another device"
            raise ValueError(f"{model.name}: the precision fp8 was asked for, but {reason}; {advice}")


def _compile(
    model: CompileModel, device: str, dtype: str, known: KnownTargets, resolve: Resolve, tell: Tell
) -> CompiledModel:
    from bertstream.workers import native
    from bertstream.workers.compile import targets
    from bertstream.workers.compile.compiler import compile_checkpoint

    started, progress = time.monotonic(), _progress(model, tell)
    progress("find", 0, 1)
    checkpoint = resolve(model)  # before operators are built, which takes longer
    target = targets.choose(dtype, device, known.cache, progress)
    folder = compile_checkpoint(checkpoint, target, known.cache, progress, _options(model))
    found = _known(target)
    if device == "cpu" and not native.failures:  # what a failure has led to may be otherwise at the next start
        known.remember(target.dtype, found)
    return _described(folder, device, dtype, started, found)


def _known(target: Target) -> KnownTarget:
    """Return what later starts have to know of a target."""
    import torch

    from bertstream.workers import native

    in_use, reason = native.status()
    library = str(native.loaded_library()) if target.native else ""
    instructions = native.instructions() if target.native and target.device == "cpu" else ""
    return KnownTarget(torch.__version__, target.identity, "native" if in_use else reason, library, instructions)


def _described(folder: Path, device: str, dtype: str, started: float, target: KnownTarget) -> CompiledModel:
    seconds = time.monotonic() - started
    return CompiledModel(str(folder), device, dtype, seconds, target.library, target.instructions)


def _progress(model: CompileModel, tell: Tell) -> revisions.Progress:
    return lambda step, done, total: tell(CompileStep(model.name, step, done, total))


def _options(model: CompileModel) -> revisions.ReadingOptions:
    return revisions.ReadingOptions(model.task, model.allow_unsupported_modules)


def choose_target(model: CompileModel, gpus: int) -> tuple[str, str]:
    """Return the device kind and the precision to use for a model. Raises ValueError where one is not available."""
    device = choose_device(model.device, gpus, model.name)
    return device, choose_dtype(model.dtype, device, model.name)


def choose_device(asked: str, gpus: int, name: str) -> str:
    """Return the device kind to use for a model. Raises ValueError where it is not there."""
    kind, _, index = asked.partition(":")
    if kind == "cuda" and not gpus:
        raise ValueError(f"{name}: the device {asked} was asked for, but torch sees no CUDA device")
    if index and int(index) >= gpus:
        raise ValueError(f"{name}: the device {asked} was asked for, but the last one is cuda:{gpus - 1}")
    return ("cuda" if gpus else "cpu") if kind == "auto" else kind


def choose_dtype(asked: str, device: str, name: str) -> str:
    """Return the precision to use: by default float16 on CUDA, exact enough and fast, and float32 on the CPU.

    Raises ValueError for int8 on CUDA, and fp8 elsewhere.
    """
    if asked == "int8" and device != "cpu":
        raise ValueError(
            f"{name}: the precision int8 was asked for, which is for the CPU alone, and it is to run on {device}; "
            "choose another precision, or the device cpu"
        )
    if asked == "fp8" and device != "cuda":
        raise ValueError(
            f"{name}: the precision fp8 was asked for, which is for CUDA alone, and it is to run on {device}; "
            "choose another precision, or the device cuda"
        )
    return asked if asked != "auto" else {"cuda": "float16", "cpu": "float32"}[device]


def main(argv: list[str]) -> int:
    """Compile, report to the supervisor, and return the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor handles Ctrl-C
    control, task = begin(argv, CompileTask)
    control.listen(lambda _: None, orphaned=lambda: os._exit(0))  # only a child that is ready gets messages
    at = ""

    def tell(step: CompileStep) -> None:
        nonlocal at
        at = step.step
        control.send(Progress(step))

    try:
        control.send(Ready(compile_all(task, tell)))
    except ModuleNotFoundError as error:
        control.send(Failed(f"{error}: install the server with pip install 'bertstream[server]'"))
        return 1
    except Exception as error:  # the supervisor reports it to the user
        log.debug("could not compile", exc_info=True)
        control.send(Failed(explain(error, at, task.cache), at))
        return 1
    return 0


def explain(error: Exception, step: str, cache: str) -> str:
    """Return an error that ended the compilation, worded for people."""
    if isinstance(error, TrustError):
        return f"the cache (--cache): {error}"
    number = error.errno if isinstance(error, OSError) else None
    # torch writes files by itself, and its error then has no errno, and many lines.
    if number not in _NO_SPACE and not (step == "save" and "file write failed" in str(error)):
        return str(error)
    why = os.strerror(number or errno.ENOSPC)
    place = cache or revisions.default_cache()
    return f"cannot write to {place}: {why}; make room there, or choose another folder by --cache"


if __name__ == "__main__":
    sys.exit(main(sys.argv))
