"""Compare our matrix products with torch's in one thread: single ones in GFLOP/s, and the embedded model with either.

    .venv/bin/python -m benchmarks.products [--rounds 40]

Numbers and ids are random. All take turns; the best of all rounds counts, in the thread's processor time. Shares are of
the peak of float32, that of multiply-and-adds which load nothing. bfloat16 needs AMX.
"""

from __future__ import annotations

import argparse
import os
from functools import partial

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks import peak
from benchmarks.peers.timing import Call, best
from bertstream.workers import native
from bertstream.workers.compile import checkpoints
from bertstream.workers.compile.compiler import _read
from bertstream.workers.compile.revisions import default_cache
from bertstream.workers.models import Operators, load_model
from bertstream.workers.models.packing import pack, quantized

# Rows, inputs, outputs, and the operation that follows the product.
SHAPES = (
    (1024, 384, 1152, ""),
    (1024, 384, 1536, "GELU"),
    (1024, 1536, 384, "LayerNorm"),
    (1024, 768, 3072, ""),
    (1024, 3072, 768, "LayerNorm"),
    *((rows, inputs, outputs, "") for rows in (64, 32, 16, 4, 1) for inputs, outputs in ((384, 1152), (768, 3072))),
)
BATCHES = {
    "8 texts of 128": [128] * 8,
    "14 texts of 6 to 200": [200, 150, 120, 100, 90, 80, 70, 60, 50, 40, 30, 20, 8, 6],
    "one text of 57": [57],
}


def calls(rows: int, inputs: int, outputs: int, after: str) -> dict[str, Call]:
    """Return calls of torch's product alone, and of ours with its bias and the operation that follows, by precision."""
    x, weight = torch.randn(rows, inputs), torch.randn(outputs, inputs) / inputs**0.5
    half = torch.bfloat16
    numbers, columns = quantized(weight)
    amx = native.has_amx()
    made: dict[str, Call] = {
        "float32, torch": partial(functional.linear, x, weight),
        "float32": ours(x, pack(weight, amx=amx), None, after),
    }
    if amx:
        made["float32 without AMX"] = ours(x, pack(weight), None, after)
    if halves := native.has_bfloat16():
        made["bfloat16, torch"] = partial(functional.linear, x.to(half), weight.to(half))
        made["bfloat16"] = ours(x.to(half), pack(weight.to(half)), None, after)
    return made | {"int8": ours(x.to(half) if halves else x, pack(numbers), columns, after)}


def ours(x: Tensor, packed: Tensor, columns: Tensor | None, after: str) -> Call:
    """Return a call of our product for x [T, K], with its bias and the operation that follows."""
    outputs = packed.size(0) * 16
    row = torch.randn(outputs)
    given = (x, packed, columns, None, row)
    if after == "GELU":
        return partial(torch.ops.bertstream.linear_gelu, *given, False)
    if after == "LayerNorm":
        residual = torch.randn(x.size(0), outputs, dtype=x.dtype)
        return partial(torch.ops.bertstream.linear_add_layer_norm, *given, residual, row, row, 1e-12)
    return partial(torch.ops.bertstream.linear, *given)


def programs(dtype: torch.dtype) -> dict[str, torch.jit.ScriptModule]:
    """Return the embedded model with torch's products and with ours; all other operators are ours."""
    contents = _read(checkpoints.embedded(), lambda step, done, total: None)
    shape, weights = contents.config.shape, contents.weights
    own = Operators(native=True, products="packed", amx=native.has_amx(), bfloat16=native.has_bfloat16())
    return {
        "torch": torch.jit.script(load_model(shape, Operators(native=True), weights, dtype)),
        "ours": torch.jit.script(load_model(shape, own, weights, dtype)),
    }


@torch.inference_mode()
def measure_programs(rounds: int) -> None:
    """Measure the embedded model with either product, and print milliseconds per batch."""
    torch._C._jit_set_profiling_mode(False)
    for dtype in (torch.float32, torch.bfloat16) if native.has_bfloat16() else (torch.float32,):
        made = programs(dtype)
        for name, lengths in BATCHES.items():
            ids = torch.randint(1000, 20000, (sum(lengths),), dtype=torch.int32)
            seconds = best({key: partial(module, ids, None, lengths, [6]) for key, module in made.items()}, rounds)
            figures = ", ".join(f"{key} {taken * 1e3:.1f} ms" for key, taken in seconds.items())
            print(f"{dtype}, {name}: {figures}, {seconds['torch'] / seconds['ours']:.2f} x")


def share(name: str, speed: float, ceiling: float) -> str:
    """Return what part of the peak this is, in words; nothing where there is no peak, or it is another precision's."""
    return f" ({speed / ceiling:.0%})" if ceiling and name.startswith("float32") else ""


def main() -> None:
    """Print a line for each product and each batch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    native.load(native.build(default_cache()))
    torch.set_num_threads(1)
    ceiling = peak.gflops()
    print(f"{native.instructions()}, peak of float32 {ceiling:.0f} GFLOP/s")
    for rows, inputs, outputs, after in SHAPES:
        seconds = best(calls(rows, inputs, outputs, after), rounds)
        work = 2e-9 * rows * inputs * outputs
        figures = ", ".join(
            f"{name} {work / taken:.0f}{share(name, work / taken, ceiling)}" for name, taken in seconds.items()
        )
        print(f"{rows} x {inputs} x {outputs} {after}: {figures}")
    measure_programs(rounds)


if __name__ == "__main__":
    main()
