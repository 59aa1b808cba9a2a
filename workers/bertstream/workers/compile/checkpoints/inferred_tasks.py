"""Infer which head a checkpoint's weights are for, by their names and shapes, where config.json names no class.

Only what can be nothing else is inferred. Source: the weights that the releases of transformers save.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from bertstream.workers.compile.checkpoints.config import CheckpointConfig
from bertstream.workers.compile.checkpoints.families import FAMILIES, Head
from bertstream.workers.compile.checkpoints.weights import PARTS, todays_name
from bertstream.workers.contract import TASKS

_SPAN_LABEL = re.compile(r"[BIESLU]-.+")  # a label of an entity's first, middle or last token, or the like


@dataclass(frozen=True, slots=True)
class Inferred:
    """Hold what the weights say."""

    task: str = ""  # one of TASKS; "" where there is none, or it is ambiguous
    outputs: int = 0  # rows of the task's last layer; 0 where there is no task
    warning: str = ""  # says why the task is ambiguous


def infer_task(weights: Mapping[str, Tensor], config: CheckpointConfig, task: str = "") -> Inferred:
    """Return the task that the weights are for, other than predicting tokens.

    weights: all of the checkpoint's, by its own names. task: the task that the user names, so that only the number of
    outputs has to be found.
    """
    sizes = _head_sizes(weights, config)
    if task:
        return _of(next((head for head in config.family.heads if head.name == task), None), sizes)
    pooler = config.family.pooler_weight
    has_pooler = bool(pooler) and any(todays_name(name, config.family).endswith(pooler) for name in weights)
    possible = [head for head in config.family.heads if _may_be(head, sizes, has_pooler)]
    if len(possible) > 1:
        possible = [
            head for head in possible if head.name in _likely(possible, _of(possible[0], sizes).outputs, config)
        ]
    if len(possible) > 1:
        return Inferred(warning=_ambiguous(possible))
    return _of(possible[0] if possible else None, sizes)


def _head_sizes(weights: Mapping[str, Tensor], config: CheckpointConfig) -> dict[str, int]:
    """Return the number of rows of each weight of task heads."""
    return {
        todays_name(name, config.family): tensor.shape[0]
        for name, tensor in weights.items()
        if name.startswith(config.family.head_prefixes) and tensor.dim()
    }


def _may_be(head: Head, sizes: Mapping[str, int], has_pooler: bool) -> bool:
    """Return whether the weights are all that the head needs, and no more."""
    names = _names(head)
    others = {name for other in TASKS for each in _all_of(other) for name in _names(each)}
    if head.name not in TASKS or not names <= sizes.keys() or (others & sizes.keys()) - names:
        return False
    fits = head.outputs in (0, sizes[f"{head.modules['output']}.weight"])
    return fits and (has_pooler or not head.reads_pooler)


def _all_of(task: str) -> list[Head]:
    return [head for family in FAMILIES.values() for head in family.heads if head.name == task]


def _names(head: Head) -> set[str]:
    """Return the checkpoint's names of all weights that the head must have."""
    return {
        f"{theirs}.{part}"
        for ours, theirs in head.modules.items()
        for part in PARTS
        if f"{ours}.{part}" not in head.optional
    }


def _likely(possible: list[Head], outputs: int, config: CheckpointConfig) -> set[str]:
    """Return the names of the heads that config.json's labels leave possible."""
    names, hints = {head.name for head in possible}, config.hints
    if outputs == 1:
        # Token classification with one label would say nothing. Multiple choice has no labels, and then config.json
        # names none, or two.
        return names & ({"sequence_classification"} if hints.count == 1 or hints.scores else {"multiple_choice"})
    if hints.scores:
        return names & {"sequence_classification"}
    return names & {"token_classification"} if any(map(_SPAN_LABEL.fullmatch, hints.labels)) else names


def _of(head: Head | None, sizes: Mapping[str, int]) -> Inferred:
    if head is None:
        return Inferred()
    return Inferred(head.name, sizes.get(f"{head.modules['output']}.weight", 0))


def _ambiguous(possible: list[Head]) -> str:
    names, modules = " or ".join(head.name for head in possible), sorted(possible[0].modules.values())
    return (
        f"config.json names no class, and the weights {', '.join(f'{each}.*' for each in modules)} may be a head for "
        f"{names}: it is not served unless --task says which it is."
    )
