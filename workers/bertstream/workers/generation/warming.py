"""Run the first steps of a program, which are slow, before anyone waits for them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bertstream.workers.contract import Generate, GenerationOptions
from bertstream.workers.generation.generator import Generator
from bertstream.workers.generation.queue import GenerationQueue, rows_of
from bertstream.workers.programs.description import GenerationDescription
from bertstream.workers.programs.interface import GeneratingProgram
from bertstream.workers.serving.running_record import Computing

_INPUT_TOKENS = 8
_WAYS = (
    GenerationOptions(max_new_tokens=4),
    GenerationOptions(max_new_tokens=4, num_beams=2, repetition_penalty=1.1),
    GenerationOptions(max_new_tokens=4, do_sample=True, top_k=4, top_p=0.9, stream=True),
)


class _Nobody:
    """Take the answers that nobody reads."""

    number = 0

    def reply(self, make: Callable[[], object]) -> None:
        make()


def warm_up(program: GeneratingProgram, description: GenerationDescription, computing: Computing, device: str) -> None:
    """Generate a few tokens in each way, with a small cache of its own."""
    tokens = max(1, min(_INPUT_TOKENS, description.max_tokens - 4))
    works = [Generate(number, np.zeros(tokens, np.int32), options) for number, options in enumerate(_WAYS)]
    rows = sum(map(rows_of, works))
    queue, nobody = GenerationQueue(rows, rows), _Nobody()
    generator = Generator(
        program, description, queue, computing, batch_tokens=rows, max_sequences=len(_WAYS) + 1, device=device
    )
    for work in works:
        queue.add(work, nobody)
    while generator.turn():
        pass
