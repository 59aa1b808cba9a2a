"""Compare a step of generation that reads the cache in place with one that copies what it reads, in one thread.

    .venv/bin/python -m benchmarks.decoding [--rounds 20]

All else is the same in both. They take turns; the best of all rounds counts, in the thread's processor time. Weights
and ids are random.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from functools import partial
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import torch
from torch import Tensor

from benchmarks.models import BASE, SMALL, random_bert
from benchmarks.peers.timing import best
from bertstream.workers import native
from bertstream.workers.compile.compiler import _read
from bertstream.workers.compile.revisions import default_cache
from bertstream.workers.models import Operators, load_model
from bertstream.workers.models.decoder import CachedAttention

SHAPES = {"small": SMALL, "bert-base": BASE}
# Sequences, and whether they are beams of one text, which share the rows of all but their last 8 tokens.
WAYS = {"greedy, 1 at once": (1, False), "greedy, 32 at once": (32, False), "4 beams": (4, True)}
PASTS = (32, 128, 384)  # tokens
_OWN = 8


def modules(config: dict[str, object], dtype: torch.dtype) -> dict[str, torch.jit.ScriptModule]:
    """Return the same decoder twice: with attention in place, and with attention to a copy."""
    with tempfile.TemporaryDirectory() as name:
        random_bert(Path(name), "BertLMHeadModel", is_decoder=True, **config)
        contents = _read(Path(name), lambda step, done, total: None)
    made: dict[str, torch.jit.ScriptModule] = {}
    for way in ("copied", "in place"):
        weights = contents.weights | contents.heads.weights
        model = load_model(contents.config.shape, Operators(native=True), weights, dtype, contents.heads.shapes)
        for module in model.modules():
            if isinstance(module, CachedAttention):
                module.native = way == "in place"
        made[way] = torch.jit.script(model)
    return made


def step_inputs(sequences: int, tokens: int, beams: bool) -> tuple[Tensor, ...]:
    """Return ids, positions, rows, past and its lengths of a step of sequences that have so many tokens each."""
    past = torch.arange(sequences * tokens).view(sequences, tokens)
    if beams:
        past[:, : tokens - _OWN] = past[0, : tokens - _OWN]
    lengths = torch.full((sequences,), tokens)
    ids = torch.randint(1000, 20000, (sequences,), dtype=torch.int32)
    return ids, lengths - 1, past[:, -1].contiguous(), past, lengths


@torch.inference_mode()
def measure(shape: str, dtype: torch.dtype, rounds: int) -> None:
    """Print a line for each way and length, of tokens per second."""
    made = modules(SHAPES[shape], dtype)
    rows = max(sequences for sequences, _ in WAYS.values()) * max(PASTS)
    caches = {name: module.new_cache(rows) for name, module in made.items()}
    for way, (sequences, beams) in WAYS.items():
        for tokens in PASTS:
            inputs = step_inputs(sequences, tokens, beams)
            calls = {name: partial(module.step, caches[name], *inputs, None) for name, module in made.items()}
            seconds = best(calls, rounds)
            figures = ", ".join(f"{name} {sequences / taken:.0f}" for name, taken in seconds.items())
            ratio = seconds["copied"] / seconds["in place"]
            print(f"{shape}, {dtype}, {way}, {tokens} tokens: {figures} tokens/s, {ratio:.2f} x", flush=True)


def main() -> None:
    """Measure each shape in each precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    native.load(native.build(default_cache()))
    torch.set_num_threads(1)
    torch._C._jit_set_profiling_mode(False)
    for shape in SHAPES:
        for dtype in (torch.float32, torch.bfloat16):
            measure(shape, dtype, rounds)


if __name__ == "__main__":
    main()
