"""Merge adapters of low rank into the matrices that they change (LoRA, arXiv 2106.09685).

Jina's third embedding models have one for each of several tasks. A matrix W [m, n] that has them is saved in three
parts, below `W.parametrizations.weight`: `original`; `0.lora_A` and `0.lora_B`, those of all tasks in turn. The matrix
for a task is W + s B A, s being config.json's lora_alpha / lora_rank, or W + s A B where W is a table of embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from bertstream.workers.compile.sources.bounds import check_count, shown
from bertstream.workers.compile.sources.errors import CheckpointError

_PARTS = ".parametrizations.weight."
_ORIGINAL, _FIRST, _SECOND = (f"{_PARTS}{part}" for part in ("original", "0.lora_A", "0.lora_B"))
_MOST_RANK = 1 << 16


@dataclass(frozen=True, slots=True)
class Adapters:
    """Hold what config.json says of a checkpoint's adapters."""

    names: tuple[str, ...] = ()  # of their tasks, in the order of their weights; empty where there are none
    scale: float = 1.0
    prompts: Mapping[str, str] = field(default_factory=dict)  # by task, the text before each text

    def number(self, task: str, root: Path) -> int | None:
        """Return which adapter is for a task, None for no task. Raises CheckpointError where there is none for it."""
        if not task:
            return None
        if task not in self.names:
            there = f"its adapters are for {', '.join(self.names)}" if self.names else "it has no adapters"
            raise CheckpointError(f"{root} has no adapter for the task {task}: {there}")
        return self.names.index(task)

    def warnings(self, task: str) -> tuple[str, ...]:
        """Return what to tell where there are adapters, and none is meant."""
        if not self.names or task:
            return ()
        return (f"The checkpoint has adapters for {', '.join(self.names)}, and none is used: a task names one.",)


def read_adapters(values: Mapping[str, Any], path: Path) -> Adapters:
    """Return the adapters that config.json tells of. Raises CheckpointError."""
    names, prompts = values.get("lora_adaptations"), values.get("task_instructions")
    if names is None:
        return Adapters()
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len({*names}) < len(names):
        raise CheckpointError(f"{path}: lora_adaptations must be a list of different names, not {shown(names)}")
    rank, alpha = check_count(values.get("lora_rank", 4), _MOST_RANK, path, "lora_rank"), values.get("lora_alpha", 1)
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not 0 < alpha < _MOST_RANK:
        raise CheckpointError(f"{path}: lora_alpha must be a number above 0, not {shown(alpha)}")
    own = prompts if isinstance(prompts, dict) else {}
    return Adapters(tuple(names), alpha / rank, {name: str(own.get(name, "")) for name in names})


def merge_adapters(weights: Mapping[str, Tensor], adapters: Adapters, number: int | None) -> dict[str, Tensor]:
    """Return the weights by their usual names, with the adapter of this number merged, or none.

    Where the checkpoint has no adapters, they are as they were. Raises CheckpointError for those that do not fit.
    """
    if not adapters.names:
        return dict(weights)
    found = {name: weight for name, weight in weights.items() if _PARTS not in name}
    for name, weight in weights.items():
        if name.endswith(_ORIGINAL):
            base = name.removesuffix(_ORIGINAL)
            found[f"{base}.weight"] = weight if number is None else _merged(weights, base, adapters, number)
    return found


def _merged(weights: Mapping[str, Tensor], base: str, adapters: Adapters, number: int) -> Tensor:
    """Return a matrix for a task, in float32."""
    weight, names = weights[base + _ORIGINAL], (base + _FIRST, base + _SECOND)
    if missing := [name for name in names if name not in weights]:
        raise CheckpointError(f"weight {missing[0]} is missing, of the adapters that config.json has")
    first, second = (weights[name] for name in names)
    if first.dim() != 3 or second.dim() != 3 or not len(first) == len(second) == len(adapters.names):
        raise CheckpointError(f"weights {', '.join(names)} must be three-dimensional, of {len(adapters.names)} tasks")
    one, other = first[number].float(), second[number].float()
    pair = (other, one) if (other.size(0), one.size(1)) == weight.shape else (one, other)
    if (pair[0].size(0), pair[1].size(1)) != weight.shape or pair[0].size(1) != pair[1].size(0):
        sizes = f"{list(one.shape)} and {list(other.shape)}"
        raise CheckpointError(f"weights {', '.join(names)} are {sizes} a task, for a matrix of {list(weight.shape)}")
    return weight.float() + adapters.scale * (pair[0] @ pair[1])
