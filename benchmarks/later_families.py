"""Compare encoders of later families with transformers', in one thread, with the same random weights.

    .venv/bin/python -m benchmarks.later_families [--rounds 8] [--layers 12] [--models deberta-v3-base albert-base]

Both take turns; the best of all rounds counts, in the thread's processor time. transformers gets texts sorted by
length, padded, at most 8 at once; ours gets all packed.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import torch
import transformers
from torch import Tensor

from benchmarks.models import random_bert
from benchmarks.peers.timing import best
from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.programs.program import ScriptedProgram

BASE: dict[str, Any] = {
    "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072,
    "vocab_size": 30522,
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "deberta-v3-base": {
        **BASE, "architecture": "DebertaV2Model", "position_buckets": 256, "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"], "norm_rel_ebd": "layer_norm", "share_att_key": True,
        "position_biased_input": False,
    },
    "albert-base": {**BASE, "architecture": "AlbertModel"},
}  # fmt: skip
TEXTS: dict[str, list[int]] = {  # tokens of each
    "1 of 16": [16],
    "1 of 128": [128],
    "32 of 8 to 128": sorted(torch.randint(8, 129, (32,), generator=torch.Generator().manual_seed(0)).tolist()),
    "4 of 512": [512] * 4,
}
AT_ONCE = 8


def theirs(model: Any, ids: list[Tensor]) -> Callable[[], None]:
    """Return a function that computes the texts' last states by transformers."""
    batches = []
    for first in range(0, len(ids), AT_ONCE):
        padded = torch.nn.utils.rnn.pad_sequence(ids[first : first + AT_ONCE], batch_first=True, padding_value=-1)
        batches.append((padded.clamp_min(0).long(), (padded >= 0).long()))

    def run() -> None:
        for padded, mask in batches:
            model(padded, attention_mask=mask)

    return run


def ours(program: ScriptedProgram, ids: list[Tensor]) -> Callable[[], object]:
    """Return a function that computes the texts' last states by a program."""
    packed, lengths = torch.cat(ids), [len(text) for text in ids]
    return lambda: program.hidden_states(packed, None, lengths, [program.description.layers])


@torch.inference_mode()
def measure(name: str, rounds: int, layers: int) -> None:
    """Print a line for each workload, of tokens per second."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "checkpoint"
        random_bert(checkpoint, **MODELS[name] | {"num_hidden_layers": layers})
        model = transformers.AutoModel.from_pretrained(checkpoint).eval()
        programs = {
            dtype: ScriptedProgram.load(compile_model(checkpoint, dtype=dtype, cache=Path(folder)), "cpu")
            for dtype in ("float32", "int8")
        }
    generator = torch.Generator().manual_seed(1)
    for workload, lengths in TEXTS.items():
        ids = [torch.randint(5, 8000, (length,), generator=generator, dtype=torch.int32) for length in lengths]
        calls = {"transformers": theirs(model, ids)} | {each: ours(program, ids) for each, program in programs.items()}
        seconds = best(calls, rounds)
        figures = ", ".join(
            f"{each} {sum(lengths) / taken:.0f} ({seconds['transformers'] / taken:.2f} x)"
            for each, taken in seconds.items()
        )
        print(f"{name}, {workload}: {figures} tokens/s", flush=True)


def main() -> None:
    """Measure each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.models:
        measure(name, options.rounds, options.layers)


if __name__ == "__main__":
    main()
