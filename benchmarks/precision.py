"""Measure what bfloat16, float16 and int8 lose in accuracy and gain in speed, for the embedded model and real English.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.precision

The texts are the sentences of LICENSE. A server with the same number of threads computes in the same precisions.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from benchmarks.peers.engine import planned
from benchmarks.peers.timing import best
from bertstream.workers.compile.checkpoints import embedded
from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.programs.program import ScriptedProgram

ROUNDS, BATCH_TOKENS = 7, 4096
LICENSE = Path(__file__).parents[1] / "LICENSE"


def sentences() -> list[str]:
    """Return the sentences of LICENSE."""
    return [part for text in re.split(r"[.;:]\s", LICENSE.read_text()) if len(part := " ".join(text.split())) > 20]


def encode(program: ScriptedProgram, batches: list[list[list[int]]]) -> tuple[Tensor, Tensor]:
    """Return the last hidden states [T, H] and normalised mean vectors [n, H], in float32."""
    parts = []
    for batch in batches:
        lengths = [len(row) for row in batch]
        ids = torch.tensor([id for row in batch for id in row], dtype=torch.int32)
        (states,) = program.hidden_states(ids, None, lengths, [program.description.layers])
        parts.append((states.float(), torch.nn.functional.normalize(program.pool(states, lengths, "mean"), dim=1)))
    states, vectors = (torch.cat(each) for each in zip(*parts, strict=True))
    return states, vectors


def main() -> None:
    """Measure the precisions in turns, and print a table."""
    dtypes = ("float32", "bfloat16", "float16", "int8")
    directories = {dtype: compile_model(embedded(), dtype=dtype) for dtype in dtypes}
    programs = {dtype: ScriptedProgram.load(directory, "cpu") for dtype, directory in directories.items()}
    tokenizer = Tokenizer.from_file(str(directories["float32"] / "tokenizer.json"))
    rows = [encoding.ids for encoding in tokenizer.encode_batch(sentences())]
    work = [[rows[text] for text in batch] for batch in planned([len(row) for row in rows], BATCH_TOKENS)]
    seconds = best({dtype: partial(encode, program, work) for dtype, program in programs.items()}, ROUNDS)
    tokens = sum(map(len, rows))
    instructions = torch.backends.cpu.get_cpu_capability() + (" AMX" if torch.cpu._is_amx_tile_supported() else "")
    print(f"{len(rows)} texts, {tokens} tokens, {torch.get_num_threads()} threads, {instructions}")
    print("precision  tokens/s  speed   worst state  its cosine  worst vector  its cosine  worst similarity  self-test")
    want_states, want = encode(programs["float32"], work)
    for dtype, program in programs.items():
        states, vectors = encode(program, work)
        test = program.description.precision_test
        print(
            f"{dtype:9}  {tokens / seconds[dtype]:8.0f}  {seconds['float32'] / seconds[dtype]:5.2f}  "
            f"{(states - want_states).abs().max():11.5f}  {cosine(states, want_states):10.6f}  "
            f"{(vectors - want).abs().max():12.6f}  {cosine(vectors, want):10.6f}  "
            f"{(vectors @ vectors.T - want @ want.T).abs().max():16.6f}  "
            f"{test.max_abs_difference:.5f}, {test.min_cosine:.6f}"
        )


def cosine(got: Tensor, want: Tensor) -> float:
    """Return the smallest cosine of any row."""
    return float(torch.cosine_similarity(got.double(), want.double()).min())


if __name__ == "__main__":
    main()
