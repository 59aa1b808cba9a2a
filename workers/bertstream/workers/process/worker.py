"""Run a worker process: load one program, answer frontends over a Unix socket, and die with the supervisor."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from bertstream.workers.contract import Hello
from bertstream.workers.measuring.instruments import Registry
from bertstream.workers.measuring.snapshots import LastSnapshot
from bertstream.workers.process.control import (
    Answer,
    ControlLine,
    Failed,
    Heard,
    Ping,
    Pong,
    Progress,
    Question,
    Ready,
    Stop,
    begin,
)
from bertstream.workers.process.garbage import settle
from bertstream.workers.process.settings import WorkerSettings

if TYPE_CHECKING:
    from bertstream.workers.generation.generator import Generator
    from bertstream.workers.programs.description import ModelDescription
    from bertstream.workers.programs.interface import Program
    from bertstream.workers.programs.program import ScriptedProgram
    from bertstream.workers.serving.cores import Cores
    from bertstream.workers.serving.loop import EngineLoop
    from bertstream.workers.serving.queue import WorkQueue
    from bertstream.workers.serving.running_record import Computing

log = logging.getLogger(__name__)

# Frontends go first where cores are few: a call that is refused costs little, and should not wait for a batch.
NICENESS = 5
_MEASURED = 3  # batches of each size, of which the fastest counts


def main(argv: list[str]) -> int:
    """Serve until told to stop, and return the exit code."""
    # The supervisor handles both signals: service managers signal all processes, and calls under way still need
    # workers.
    os.nice(NICENESS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.excepthook = _end_with_thread
    control, settings = begin(argv, WorkerSettings)
    stay_on(settings.cores)
    try:
        serve(settings, control)
    except Exception as error:  # the supervisor reports it to the user
        log.exception("the worker failed")
        # Of an error in a scripted module, only the last line is for people; the log has all of it.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        control.send(Failed(f"{settings.name}: {reason}"))
        return 1
    return 0


def stay_on(cores: Sequence[int]) -> None:
    """Keep this thread, and all that it starts, on those of these cores that this process may use."""
    if not cores:
        return
    try:
        os.sched_setaffinity(0, cores)
    except OSError as error:  # the cores that it may use have changed since its supervisor looked
        log.warning("cannot stay on its cores", extra={"cores": list(cores), "error": str(error)})


def _end_with_thread(failed: threading.ExceptHookArgs) -> None:
    """End the process when a thread fails: it would answer pings and nothing else, so it is better replaced."""
    name = failed.thread.name if failed.thread else "?"
    error = (failed.exc_type, failed.exc_value or failed.exc_type(), failed.exc_traceback)
    log.critical("the thread %s failed", name, exc_info=error)
    os._exit(70)


def serve(settings: WorkerSettings, control: ControlLine) -> None:
    """Load, warm up, listen, and wait to be told to stop."""
    loop: EngineLoop | None = None
    registry = Registry()
    stopped = threading.Event()

    def hear(message: Heard) -> None:
        match message:
            case Ping():
                control.send(Pong(loop.computing_seconds if loop else 0.0))
            case Stop():
                stopped.set()
            case Question():  # there is only one: TakeSnapshot
                control.send(Answer(message.id, registry.snapshot()))

    control.listen(hear, orphaned=lambda: leave(settings.folder))
    import torch  # only now, since the environment's thread counts are read at its import

    torch.set_num_interop_threads(1)
    loop, queue = start(settings, registry)
    settle()
    control.send(Ready())
    stopped.wait()
    queue.close()
    control.send(Progress(LastSnapshot(registry.snapshot())))


def leave(folder: str) -> NoReturn:
    """End at once, even while a batch computes, since the supervisor is gone; remove what it can remove no more."""
    try:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)  # others do the same meanwhile
    finally:
        os._exit(0)


def start(settings: WorkerSettings, registry: Registry | None = None) -> tuple[EngineLoop, WorkQueue]:
    """Start the worker's parts, which count in the registry, and return the loop and the queue."""
    import torch

    from bertstream.workers.engine.sessions import Sessions
    from bertstream.workers.process.gpu import gpu_readings
    from bertstream.workers.programs.program import ScriptedProgram
    from bertstream.workers.serving.connections import Listener, Queues
    from bertstream.workers.serving.loop import EngineLoop
    from bertstream.workers.serving.measures import WorkMeasures, queue_readings
    from bertstream.workers.serving.queue import WorkQueue
    from bertstream.workers.serving.running_record import Computing, RunningRecord

    registry = registry or Registry()
    measures = WorkMeasures(registry, settings.model)
    torch.set_num_threads(settings.threads)
    program = ScriptedProgram.load(
        Path(settings.directory), settings.device, Path(settings.operators) if settings.operators else None
    )
    cores = shared_cores(settings)
    computing = Computing(RunningRecord(Path(settings.running)), cores)
    generator = make_generator(program, settings, computing, registry)
    generation = generator.queue if generator else None
    cache_tokens = generation.cache_tokens if generation is not None else 0  # an empty queue is false
    queue = WorkQueue(settings.queue_tokens, settings.batch_tokens, settings.queue_seconds)
    sessions = Sessions(settings.session_bytes)
    registry.read(lambda: queue_readings(queue, settings.model))
    registry.read(lambda: gpu_readings(settings.name, settings.device))
    layers = program.description.layers
    loop = EngineLoop(program, queue, computing, sessions, layers, settings.device, generator, measures)

    def warm(_: Program) -> Program:
        runs = warm_up(program, settings, computing, cores)
        queue.interactive_tokens = interactive_tokens(runs, program.description, settings)
        return runs

    loop.start(warm)

    def hello(connection: int) -> Hello:
        sizes = settings.batch_tokens, queue.interactive_tokens
        fields = settings.name, os.getpid(), connection, *sizes, settings.running, cache_tokens
        return Hello(*fields, wait_seconds=queue.wait_seconds, batch_seconds=queue.batch_seconds)

    Listener(settings.socket, Queues(queue, sessions, generation, measures), hello).start()
    return loop, queue


def make_generator(
    program: ScriptedProgram, settings: WorkerSettings, computing: Computing, registry: Registry
) -> Generator | None:
    """Make the generator with its cache; None where the model does not generate."""
    from bertstream.workers.generation.generator import Generator
    from bertstream.workers.generation.measures import GenerationMeasures, generation_readings
    from bertstream.workers.generation.queue import GenerationQueue

    description = program.description.generation
    if description is None or not settings.cache_tokens:
        return None
    generator = Generator(
        program,
        description,
        GenerationQueue(settings.queue_tokens, settings.cache_tokens, settings.queue_seconds),
        computing,
        batch_tokens=settings.batch_tokens,
        max_sequences=settings.generation_sequences,
        device=settings.device,
        measures=GenerationMeasures(registry, settings.model),
    )
    registry.read(lambda: generation_readings(generator.queue, generator.rows, generator.under_way, settings.model))
    return generator


def record_graphs(program: ScriptedProgram, batch_tokens: int) -> Program:
    """Return a program that replays small batches, where that gives the same numbers."""
    from bertstream.workers.engine.graphs import Limits, record

    known = program.description
    sizes = known.vocabulary_size, known.type_vocabulary_size, known.max_tokens, known.layers
    limits = Limits(*sizes, float8=known.products == "fp8")
    return record(program, program.device, batch_tokens, limits)


def shared_cores(settings: WorkerSettings) -> Cores | None:
    """Return the worker's view of the shared cores, where it uses idle ones of others; else None."""
    import torch

    from bertstream.workers.serving.cores import Cores

    return Cores(settings.share, settings.threads, torch.set_num_threads) if settings.share else None


def warm_up(
    program: ScriptedProgram, settings: WorkerSettings, computing: Computing, cores: Cores | None = None
) -> Program:
    """Run all that is slow at first, before anyone waits for it, and return the program to run batches by."""
    from bertstream.workers.generation import warming

    runs = record_graphs(program, settings.batch_tokens) if program.device.type == "cuda" else program
    run_small_batches(runs, program.description, settings.device)
    if cores is not None:  # starts the threads for idle cores
        cores.warm_up(lambda: run_small_batches(runs, program.description, settings.device))
    description = program.description.generation
    if description is not None and settings.cache_tokens:
        warming.warm_up(program, description, computing, settings.device)
    return runs


def run_small_batches(program: Program, description: ModelDescription, device: str) -> None:
    """Run small batches, since the first calls of a scripted module are slow."""
    for lengths in ([1], [8, 8, 3], [min(128, description.max_tokens)] * 4):
        run_batch(program, description, device, lengths)


def interactive_tokens(program: Program, description: ModelDescription, settings: WorkerSettings) -> int:
    """Return how many tokens a batch of interactive work has at most, by how long a small and a larger one take.

    On the CPU that is the time of its threads, as other workers may start at the same time.
    """
    from bertstream.workers.serving.pace import short_batch

    def now() -> float:
        return time.process_time() / settings.threads if settings.device == "cpu" else time.monotonic()

    def seconds(lengths: list[int]) -> float:
        started = now()
        run_batch(program, description, settings.device, lengths)
        return now() - started

    small, large = [8], [min(32, description.max_tokens)] * 4
    measured = [(sum(lengths), min(seconds(lengths) for _ in range(_MEASURED))) for lengths in (small, large)]
    return short_batch(measured[0], measured[1], settings.batch_tokens)


def run_batch(program: Program, description: ModelDescription, device: str, lengths: list[int]) -> None:
    """Run a batch of texts of these lengths, whose vectors are asked for."""
    import numpy as np

    from bertstream.workers.contract import Batch, OutputOptions, Pooling, Work
    from bertstream.workers.engine.batch import prepare
    from bertstream.workers.engine.engine import run

    last = description.layers
    output_options = OutputOptions(("pooled",), Pooling("mean", (last,), normalize=True))
    batch = Batch(np.zeros(sum(lengths), np.int32), np.array(lengths, np.int32))
    run(program, prepare([Work(0, batch, output_options)], last, device))
