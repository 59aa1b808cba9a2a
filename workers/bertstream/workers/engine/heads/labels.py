"""Score labels, of whole texts and of each token."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from bertstream.workers.contract import Output, ScoreFunction
from bertstream.workers.engine.heads.asking import Asking, Joined, Named
from bertstream.workers.ragged import Ints


def label_scores(asking: Asking, index: int) -> Named:
    """Score the labels of each text, [n, labels], or the best ones alone, [n, k]."""
    found = _scores(asking, index, "label_scores", asking.first_tokens).of(index, "label_scores")
    if not (k := asking.options(index).top_k):
        return found
    # Stable, so that among equal scores the lower label comes first.
    best, ids = found["label_scores"].sort(dim=1, descending=True, stable=True)
    return {"label_scores.ids": ids[:, :k].int().contiguous(), "label_scores.scores": best[:, :k].contiguous()}


def token_label_scores(asking: Asking, index: int) -> Named:
    """Score the labels of each token, [T, labels]."""
    return _scores(asking, index, "token_label_scores", asking.tokens).of(index, "token_label_scores")


def _scores(asking: Asking, index: int, output: Output, rows: Callable[[int], Ints]) -> Joined:
    """Score for all works that ask for the same function of the same head's logits, [rows, labels]."""
    options = asking.options(index)

    def make() -> Joined:
        logits = asking.logits(output, options, rows)
        return Joined({"": apply(options.function, logits.tensors[""]).cpu()}, logits.slices)

    return asking.once((output, options.name, options.function), make)


def apply(function: ScoreFunction, logits: Tensor) -> Tensor:
    """Turn labels' logits into scores, [rows, labels]."""
    if function == "softmax":
        return logits.softmax(dim=1)
    return logits.sigmoid() if function == "sigmoid" else logits
