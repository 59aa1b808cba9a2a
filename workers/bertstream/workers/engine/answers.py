"""Find the best answer spans of question answering.

The results are those of the question-answering pipeline of transformers 4, without its matrix of every token by every
other.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bertstream.workers.ragged import Ints, starts_of

CANDIDATES = 1 << 20  # spans compared at once; each takes some 20 bytes


def best_answers(
    logits: Tensor,
    lengths: NDArray[np.integer],
    span_starts: NDArray[np.integer],
    span_lengths: NDArray[np.integer],
    k: int,
    max_answer_tokens: int,
) -> dict[str, Tensor]:
    """Find the k best answers within each text's span, best first; among equals the earlier, then the shorter one.

    logits: [T, 2] float32, of each token to be the first and the last of the answer; lengths: [n] tokens of the texts;
    span_starts: [n] within the texts; span_lengths: [n]. Returns "starts" and "ends" (the last token) and "scores" [n,
    k], with -1, -1 and 0 where there are fewer, and "none" [n], the score of there being no answer.
    """
    found = {
        "starts": logits.new_full((lengths.size, k), -1, dtype=torch.int32),
        "ends": logits.new_full((lengths.size, k), -1, dtype=torch.int32),
        "scores": logits.new_zeros((lengths.size, k)),
        "none": logits.new_zeros(lengths.size),
    }
    bounds = np.stack([starts_of(lengths), lengths, span_starts, span_starts + span_lengths]).astype(np.int64)
    columns = torch.from_numpy(bounds).to(logits.device)
    for texts in _alike(lengths, max_answer_tokens):
        places = torch.from_numpy(texts).to(logits.device)
        rows, tokens, start, end = columns[:, places].unsqueeze(2)  # [c, 1] each
        longest = int(lengths[texts[0]])
        probabilities = _probabilities(logits, rows, tokens, start, end, longest)
        found["none"][places] = probabilities[:, 0].prod(dim=1)
        probabilities[:, 0] = 0.0
        starts, ends, scores = _best(probabilities, start, end, k, min(max_answer_tokens, longest))
        for name, values in (("starts", starts), ("ends", ends), ("scores", scores)):
            found[name][places, : values.shape[1]] = values.to(found[name].dtype)
    return found


def _alike(lengths: NDArray[np.integer], max_answer_tokens: int) -> Iterator[Ints]:
    """Yield the texts in groups, longest first, that are small enough when padded to their first text."""
    order, first = np.argsort(-lengths, kind="stable"), 0
    while first < order.size:
        longest = int(lengths[order[first]])
        last = first + max(1, CANDIDATES // (longest * min(longest, max_answer_tokens)))
        yield order[first:last]
        first = last


def _probabilities(logits: Tensor, rows: Tensor, tokens: Tensor, start: Tensor, end: Tensor, longest: int) -> Tensor:
    """Return the probability of each token to be the first and the last of an answer.

    The probabilities are taken over the span and the text's first token: [c, longest, 2].
    """
    place = torch.arange(longest, device=logits.device)
    real = place < tokens
    allowed = (place == 0) | ((place >= start) & (place < end))
    values = logits[torch.where(real, rows + place, 0)]
    values = values.masked_fill(~allowed.unsqueeze(2), -10000.0).masked_fill(~real.unsqueeze(2), -torch.inf)
    return values.softmax(dim=1)


def _best(probabilities: Tensor, start: Tensor, end: Tensor, k: int, band: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return starts, ends and scores [c, at most k] of the best spans of at most `band` tokens."""
    texts, longest, _ = probabilities.shape
    place = torch.arange(longest, device=probabilities.device)
    last = place.unsqueeze(1) + torch.arange(band, device=place.device)  # [longest, band]
    lasts = torch.nn.functional.pad(probabilities[:, :, 1], (0, band - 1)).unfold(1, band, 1)
    within = ((place >= start) & (place < end)).unsqueeze(2) & (last < end.unsqueeze(2))
    scores = (probabilities[:, :, :1] * lasts).masked_fill(~within, -1.0).view(texts, -1)
    at = _top(scores, min(k, scores.shape[1]))
    best = scores.gather(1, at)
    none = best < 0
    starts = at // band
    ends = (starts + at % band).masked_fill(none, -1)
    return starts.masked_fill(none, -1), ends, best.masked_fill(none, 0.0)


def _top(scores: Tensor, k: int) -> Tensor:
    """Return where the k largest of scores [c, m] are, largest first, among equals the first one first.

    topk promises no order among equals. Floats that are not negative are ordered as their bits are, so the bits below
    them can hold the place.
    """
    size = scores.shape[1]
    places = torch.arange(size - 1, -1, -1, device=scores.device)
    keys = (scores.view(torch.int32).long() << 32) | places
    return size - 1 - (keys.topk(k, dim=1).values & 0xFFFFFFFF)
