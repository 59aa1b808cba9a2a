"""Compare the engine alone with the floor (its four matrix products per layer), and print each operator's share.

    .venv/bin/python -m benchmarks.engine [--model DIRECTORY] [--dtype float32] [--rounds 9]

There is no tokenizer, no gRPC and only one thread. All take turns on the same tokens; the best of all rounds counts, in
the thread's processor time, which other processes disturb less. "aten" is the same program without our C++ operators.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import numpy as np
import torch
from torch.nn import functional

from benchmarks.peers import Settings
from benchmarks.peers.engine import BATCH_TOKENS, planned
from benchmarks.peers.floor import Floor
from benchmarks.peers.timing import Call, best
from benchmarks.workloads import LONGEST, MAX_LENGTH, MU, SHORTEST, SIGMA
from bertstream.workers import native
from bertstream.workers.compile.checkpoints import embedded
from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.programs.program import ScriptedProgram

TOKENS_A_WORD = 1.3


def workloads() -> dict[str, list[int]]:
    """Return the number of tokens of each text, by workload."""
    words = np.clip(np.random.default_rng(1).lognormal(MU, SIGMA, 128), SHORTEST, LONGEST)
    tokens = np.minimum(np.rint(words * TOKENS_A_WORD) + 2, 512).astype(int).tolist()
    return {"lognormal": tokens, "128": [128] * 32, "512": [512] * 8, "one of 57": [57]}


def floor_of(source: Path, dtype: str) -> Floor:
    """Return the floor of a checkpoint, with random weights of its shapes."""
    return Floor(Settings("floor", str(source), "", dtype, "cpu", 1, MAX_LENGTH, ""))


def multiply(floor: Floor, batches: list[list[int]]) -> None:
    """Compute only the matrix products of batches; each batch is a list of its texts' numbers of tokens."""
    for batch in batches:
        floor.multiply(sum(batch))


def encode(program: ScriptedProgram, batches: list[list[int]]) -> None:
    """Compute mean-pooled vectors of batches; each batch is a list of its texts' numbers of tokens."""
    for batch in batches:
        ids = torch.randint(1000, 20000, (sum(batch),), dtype=torch.int32)
        (states,) = program.hidden_states(ids, None, batch, [program.description.layers])
        functional.normalize(program.pool(states, batch, "mean"), dim=1)


def breakdown(call: Call, count: int = 12) -> Iterator[str]:
    """Yield a line for each operator with its share of the time, the largest first."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        call()
    events = sorted(profile.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    for event in events[:count]:
        yield f"    {event.self_cpu_time_total / total:6.1%}  {event.count:5} × {event.key}"


def programs(source: Path, dtype: str, cache: Path) -> dict[str, ScriptedProgram]:
    """Return the program with our operators, and with torch's, as on a machine without a C++ compiler."""
    ours = ScriptedProgram.load(compile_model(source, dtype=dtype, cache=cache), "cpu")
    with patch.dict(os.environ, {native.library.SWITCH: "0"}):
        return {"ours": ours, "aten": ScriptedProgram.load(compile_model(source, dtype=dtype, cache=cache), "cpu")}


def main() -> None:
    """Print a table for each workload."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="", help="a checkpoint's directory; without it the embedded model")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "int8"))
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    source = Path(options.model or embedded())
    floor = floor_of(source, options.dtype)  # first: it sets torch's threads
    with TemporaryDirectory() as folder:
        made = programs(source, options.dtype, Path(folder))
    print(f"{options.dtype}, torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, one thread")
    for name, lengths in workloads().items():
        batches = [[lengths[text] for text in part] for part in planned(lengths, BATCH_TOKENS["cpu"])]
        measure(name, batches, made, floor, options.rounds)


def measure(name: str, batches: list[list[int]], made: dict[str, ScriptedProgram], floor: Floor, rounds: int) -> None:
    """Measure and print one workload."""
    calls: dict[str, Call] = {"floor": partial(multiply, floor, batches)}
    calls |= {key: partial(encode, program, batches) for key, program in made.items()}
    seconds = best(calls, rounds)
    tokens = sum(map(sum, batches))
    print(f"\n{name}: {tokens} tokens in {len(batches)} batches")
    for key, taken in seconds.items():
        share = seconds["floor"] / taken
        print(f"  {key:6} {taken * 1e3:8.1f} ms  {tokens / taken:8.0f} tokens/s  {share:5.2f} of the floor")
    print("\n".join(breakdown(calls["ours"])))


if __name__ == "__main__":
    main()
