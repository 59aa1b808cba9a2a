"""The commands of the task heads; a new one needs a line here."""

from __future__ import annotations

from bertstream.cli._tasks import (
    answer,
    choose,
    classify,
    entities,
    fill_mask,
    next_sentence,
    rerank,
    score,
    sparse,
    zero_shot,
)

COMMANDS = (fill_mask, score, classify, zero_shot, rerank, entities, answer, next_sentence, choose, sparse)
"""Modules with `add_to(commands)`, in the order of the help."""
