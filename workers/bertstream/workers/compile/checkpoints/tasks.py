"""Which head a checkpoint's weights are where config.json names no class, by their names and shapes.

Only what can be nothing else is inferred. Source: the weights that transformers' classes save, and have saved.
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

_SPAN_LABEL = re.compile(r"[BIESLU]-.+")  # of entities, by their tokens' places in them


@dataclass(frozen=True, slots=True)
class Inferred:
    """What the weights say."""

    task: str = ""  # one of TASKS; "" where there is none, or no telling which
    outputs: int = 0  # rows of the task's last layer; 0 where there is no task
    warning: str = ""  # why there is no telling


def infer_task(weights: Mapping[str, Tensor], config: CheckpointConfig, task: str = "") -> Inferred:
    """Return the task of the heads that are no vocabulary's. weights: all of the checkpoint's, by its own names.

    task: what somebody says it is, so that only the outputs are to be found.
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
    """Return the rows of all weights of task heads."""
    return {
        todays_name(name, config.family): tensor.shape[0]
        for name, tensor in weights.items()
        if name.startswith(config.family.head_prefixes) and tensor.dim()
    }


def _may_be(head: Head, sizes: Mapping[str, int], has_pooler: bool) -> bool:
    """Whether the head has all that it needs, and leaves nothing of another over."""
    names = _names(head)
    others = {name for other in TASKS for each in _all_of(other) for name in _names(each)}
    if head.name not in TASKS or not names <= sizes.keys() or (others & sizes.keys()) - names:
        return False
    fits = head.outputs in (0, sizes[f"{head.modules['output']}.weight"])
    return fits and (has_pooler or not head.reads_pooler)


def _all_of(task: str) -> list[Head]:
    return [head for family in FAMILIES.values() for head in family.heads if head.name == task]


def _names(head: Head) -> set[str]:
    return {f"{module}.{part}" for module in head.modules.values() for part in PARTS}


def _likely(possible: list[Head], outputs: int, config: CheckpointConfig) -> set[str]:
    """Return the names of those that config.json's labels leave."""
    names, hints = {head.name for head in possible}, config.hints
    if outputs == 1:
        # One label for each token would say nothing. Choices have no labels, and then config.json names none, or two.
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
