"""The workers' outputs for task heads: whether by text, token or span, and how many bytes an entry has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from bertstream.workers.contract import HeadOptions, Output
from bertstream.workers.programs.description import ModelDescription

Unit = Literal["text", "token", "span"]


@dataclass(frozen=True, slots=True)
class HeadOutput:
    """An output of a head."""

    unit: Unit  # of which each has an entry, or as many as the output's ".counts" says
    most_bytes: Callable[[HeadOptions, ModelDescription], int]  # that one of them may have


HEAD_OUTPUTS: Mapping[Output, HeadOutput] = {
    "label_scores": HeadOutput("text", lambda head, model: 8 * head.top_k or 4 * _labels(model)),
    "answer_spans": HeadOutput("text", lambda head, model: 12 * head.top_k + 4),
    "token_label_scores": HeadOutput("token", lambda head, model: 4 * _labels(model)),
    "mask_candidates": HeadOutput("span", lambda head, model: 8 * head.top_k),
    "token_log_probabilities": HeadOutput("span", lambda head, model: 4),
    "max_similarities": HeadOutput("text", lambda head, model: 4),
    "entity_spans": HeadOutput("text", lambda head, model: 4 + 16 * head.top_k),
    "sparse_weights": HeadOutput("text", lambda head, model: 4 + 8 * (head.top_k or model.vocabulary_size)),
}


def _labels(model: ModelDescription) -> int:
    return len(model.labels) or 2  # "next_sentence" has two, "multiple_choice" one
