"""Test that the number of threads changes next to nothing in the numbers, and nothing where the products are ours."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bertstream.workers.compile import checkpoints
from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.programs.program import ScriptedProgram

LENGTHS = ([5], [57], [40, 20, 7])


def states(program: ScriptedProgram, ids: Tensor, lengths: list[int], threads: int) -> Tensor:
    """Compute in a new thread, since a thread that has computed before keeps its number of OpenMP threads."""
    found: list[Tensor] = []

    def compute() -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        with torch.inference_mode():
            found.extend(program.hidden_states(ids, None, lengths, [program.description.layers]))
        torch.set_num_threads(before)

    thread = threading.Thread(target=compute)
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_numbers_do_not_depend_on_how_many_threads_compute(dtype: str, compile_cache: Path) -> None:
    program = ScriptedProgram.load(compile_model(checkpoints.embedded(), dtype=dtype, cache=compile_cache), "cpu")
    own = program.description.native_operators and program.description.products != "plain"
    for lengths in LENGTHS:
        ids = torch.randint(1000, 20_000, (sum(lengths),), generator=torch.Generator().manual_seed(1)).int()
        one, several = (states(program, ids, lengths, threads) for threads in (1, 2))
        if own:
            assert torch.equal(one, several)
        else:
            near = 1e-5 if dtype == "float32" else 0.1
            assert float((one.float() - several.float()).abs().max()) < near
