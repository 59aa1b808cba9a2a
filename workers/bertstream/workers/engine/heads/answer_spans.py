"""Make the output for question answering: the best answer spans of each text."""

from __future__ import annotations

import numpy as np
import torch

from bertstream.workers.engine.answers import best_answers
from bertstream.workers.engine.heads.asking import Asking, Joined, Named, slices


def answer_spans(asking: Asking, index: int) -> Named:
    """Find the best spans of each text, [n, k], and the score of there being no answer, [n]."""
    options = asking.options(index)
    limit = options.max_answer_tokens
    return asking.once(("answers", limit), lambda: _answer(asking, limit)).of(index, "answer_spans", options.top_k)


def _answer(asking: Asking, limit: int) -> Joined:
    """Find answers for all works whose answers may have the same length."""
    works = [i for i in asking.works("answer_spans") if asking.options(i).max_answer_tokens == limit]
    logits = asking.logits("answer_spans", asking.options(works[0]), asking.tokens)
    spans = [asking.spans(index) for index in works]
    found = best_answers(
        torch.cat([logits.tensors[""][logits.slices[index]] for index in works]),
        np.concatenate([asking.lengths(index) for index in works]),
        np.concatenate([each.starts for each in spans]),
        np.concatenate([each.lengths for each in spans]),
        max(asking.options(index).top_k for index in works),
        limit,
    )
    named = {f".{name}": values.cpu() for name, values in found.items()}
    return Joined(named, slices(works, [each.starts for each in spans]))
