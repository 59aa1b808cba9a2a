"""Make what a worker that generates would send, token by token, as a test has written it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bertstream.workers import ipc
from bertstream.workers.contract import Completed, FinishReason, Generate, Generated

SCORE = -0.5  # of every token


def generated(work_id: int, tokens: Sequence[int], sequences: Sequence[int] | None = None) -> Generated:
    """Return some tokens of one generation, of its first sequence by default."""
    count = len(tokens)
    of = np.zeros(count, np.int32) if sequences is None else np.array(sequences, np.int32)
    works = np.full(count, work_id, np.int64)
    return Generated(works, of, np.array(tokens, np.int32), np.full(count, SCORE, np.float32))


def completed(work: Generate, answers: Sequence[Sequence[int]]) -> Completed:
    """Return the end of one generation, with all its answers."""
    ends = work.options.eos_token_ids
    reasons: list[FinishReason] = ["end_of_sequence" if ids and ids[-1] in ends else "length" for ids in answers]
    tokens = [id for ids in answers for id in ids]
    return Completed(
        work.id,
        tuple(reasons),
        np.array([len(ids) for ids in answers], np.int32),
        np.array(tokens, np.int32),
        np.full(len(tokens), SCORE, np.float32),
        np.array([SCORE * len(ids) for ids in answers], np.float32),
        0.1,
        0.2,
    )


def script(*answers: Sequence[int]) -> Callable[[Generate], list[ipc.Message]]:
    """Return a worker that gives these answers, at every step a token of each to those who stream."""

    def generate(work: Generate) -> list[ipc.Message]:
        cut = [list(ids)[: work.options.max_new_tokens] for ids in answers]
        steps = range(max(map(len, cut))) if work.options.stream else ()
        sent: list[ipc.Message] = []
        for step in steps:
            alive = [i for i, ids in enumerate(cut) if step < len(ids)]
            sent.append(generated(work.id, [cut[i][step] for i in alive], alive))
        return [*sent, completed(work, cut)]

    return generate
