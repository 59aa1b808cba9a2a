"""The workers' outputs for task heads: whether by text, token or span, and how many bytes an entry has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from bertstream.workers.contract import HeadOptions, Output

Unit = Literal["text", "token", "span"]


@dataclass(frozen=True, slots=True)
class HeadOutput:
    """An output of a head."""

    unit: Unit  # of which each has an entry
    entry_bytes: Callable[[HeadOptions, int], int]  # from the options of a head and the number of labels


HEAD_OUTPUTS: Mapping[Output, HeadOutput] = {
    "label_scores": HeadOutput("text", lambda head, labels: 8 * head.top_k or 4 * labels),
    "answer_spans": HeadOutput("text", lambda head, labels: 12 * head.top_k + 4),
    "token_label_scores": HeadOutput("token", lambda head, labels: 4 * labels),
    "mask_candidates": HeadOutput("span", lambda head, labels: 8 * head.top_k),
    "token_log_probabilities": HeadOutput("span", lambda head, labels: 4),
}
