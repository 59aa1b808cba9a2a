"""What bfloat16, float16 and int8 cost in exactness and give in speed, for the embedded model and real English.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/precision.py

The texts are the sentences of LICENSE; the same precisions as in a server of the same threads.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from bertstream.workers.checkpoints import embedded
from bertstream.workers.compile import compile_model
from bertstream.workers.program import Program

ROUNDS, BATCH_TOKENS = 7, 4096
LICENSE = Path(__file__).parents[1] / "LICENSE"


def sentences() -> list[str]:
    """The texts."""
    return [part for text in re.split(r"[.;:]\s", LICENSE.read_text()) if len(part := " ".join(text.split())) > 20]


def batches(rows: list[list[int]]) -> list[list[list[int]]]:
    """Sorted by length, as the engine has them, in batches of BATCH_TOKENS."""
    found: list[list[list[int]]] = [[]]
    for row in sorted(rows, key=len, reverse=True):
        if sum(map(len, found[-1])) + len(row) > BATCH_TOKENS:
            found.append([])
        found[-1].append(row)
    return found


def encode(program: Program, batch: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Last hidden states [T, H] and normalised mean vectors [n, H], float32."""
    lengths = [len(row) for row in batch]
    ids = torch.tensor([id for row in batch for id in row], dtype=torch.int32)
    (states,) = program.hidden_states(ids, None, lengths, [program.description.layers])
    return states.float(), torch.nn.functional.normalize(program.pool(states, lengths, "mean"), dim=1)


def main() -> None:
    """Measures each precision, in turns, and prints a table."""
    programs = {}
    for dtype in ("float32", "bfloat16", "float16", "int8"):
        directory = compile_model(embedded(), dtype=dtype)
        programs[dtype] = Program.load(directory, "cpu")
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    work = batches([encoding.ids for encoding in tokenizer.encode_batch(sentences())])
    tokens = sum(len(row) for batch in work for row in batch)
    seconds = {dtype: float("inf") for dtype in programs}
    found: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for _ in range(ROUNDS):
        for dtype, program in programs.items():
            start = time.perf_counter()
            found[dtype] = [encode(program, batch) for batch in work]
            seconds[dtype] = min(seconds[dtype], time.perf_counter() - start)
    instructions = torch.backends.cpu.get_cpu_capability() + (" AMX" if torch.cpu._is_amx_tile_supported() else "")
    print(f"{sum(map(len, work))} texts, {tokens} tokens, {torch.get_num_threads()} threads, {instructions}")
    print("precision  tokens/s  speed   worst state  its cosine  worst vector  its cosine  worst similarity  self-test")
    want_states, want = (torch.cat(parts) for parts in zip(*found["float32"], strict=True))
    for dtype, parts in found.items():
        states, vectors = (torch.cat(each) for each in zip(*parts, strict=True))
        test = programs[dtype].description.precision_test
        print(
            f"{dtype:9}  {tokens / seconds[dtype]:8.0f}  {seconds['float32'] / seconds[dtype]:5.2f}  "
            f"{(states - want_states).abs().max():11.5f}  {cosine(states, want_states):10.6f}  "
            f"{(vectors - want).abs().max():12.6f}  {cosine(vectors, want):10.6f}  "
            f"{(vectors @ vectors.T - want @ want.T).abs().max():16.6f}  "
            f"{test.max_abs_difference:.5f}, {test.min_cosine:.6f}"
        )


def cosine(got: Tensor, want: Tensor) -> float:
    """The smallest of any row."""
    return float(torch.cosine_similarity(got.double(), want.double()).min())


if __name__ == "__main__":
    main()
