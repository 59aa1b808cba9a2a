"""Find which task heads a checkpoint has, and rename their weights to ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bertstream.workers.compile.checkpoints.config import CheckpointConfig
from bertstream.workers.compile.checkpoints.families import FAMILIES, Head
from bertstream.workers.compile.checkpoints.head_settings import PossibleHead
from bertstream.workers.compile.checkpoints.weights import PARTS, SHOWN, joined, todays_name
from bertstream.workers.compile.sources.errors import CheckpointError
from bertstream.workers.contract import TASKS
from bertstream.workers.models import EncoderShape, HeadShape, state_name, weight_shapes

MATRIX = "matrix"


@dataclass(frozen=True, slots=True)
class FoundHeads:
    """Hold the heads that the checkpoint has."""

    shapes: tuple[HeadShape, ...]
    weights: dict[str, Tensor]  # by a Model's names, float32
    warnings: tuple[str, ...]


NO_HEADS = FoundHeads((), {}, ())


def find_heads(weights: Mapping[str, Tensor], words: Tensor, config: CheckpointConfig) -> FoundHeads:
    """Return those of the heads allowed by the configuration that are in the checkpoint's `weights`.

    words: [V, E] float32, the converted word embeddings. config.shape must already tell whether there is a pooler.
    Raises CheckpointError that names what a head of the checkpoint's class lacks.
    """
    left = {
        todays_name(name, config.family): tensor
        for name, tensor in weights.items()
        if name.startswith(config.family.head_prefixes)
    }
    shapes: list[HeadShape] = []
    converted: dict[str, Tensor] = {}
    warnings: list[str] = []
    for each in _forms(config.heads.possible, left):
        if warning := _absent(each, left, config.architecture):
            warnings.append(warning)
        elif found := _try_head(each, left, words, config):
            shape, own = found
            shapes.append(shape)
            converted |= {state_name(shape, name): weight for name, weight in own.items()}
            left = {name: tensor for name, tensor in left.items() if name not in _all_names(each.head)}
    return FoundHeads(tuple(shapes), converted, (*warnings, *_unused(sorted(left))))


def _forms(possible: tuple[PossibleHead, ...], weights: Mapping[str, Tensor]) -> list[PossibleHead]:
    """Return one form of each head: of those that a family has had, the first one with weights, or else the first."""
    chosen: dict[str, PossibleHead] = {}
    for each in possible:
        before = chosen.setdefault(each.head.name, each)
        if not _all_names(before.head) & weights.keys() and _all_names(each.head) & weights.keys():
            chosen[each.head.name] = each
    return list(chosen.values())


def _absent(each: PossibleHead, weights: Mapping[str, Tensor], architecture: str) -> str:
    """Return the warning for a missing head; encoders are often saved under a class with a head but without it."""
    if not (each.promised and each.head.by_weights) or _all_names(each.head) & weights.keys():
        return ""
    return f"The checkpoint is said to be a {architecture}, and the weights of its head {each.head.name} are not there."


def _unused(names: list[str]) -> tuple[str, ...]:
    shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    hint = "; --task can say what it is for" if any(name.startswith(_of_tasks()) for name in names) else ""
    return (f"The checkpoint has weights of a head that is not served: {shown}{hint}.",) if names else ()


def _of_tasks() -> tuple[str, ...]:
    """Return the prefixes of the weights of task heads, of all families."""
    heads = [head for family in FAMILIES.values() for head in family.heads if head.name in TASKS]
    return tuple({f"{head.modules['output']}." for head in heads})


def _try_head(
    each: PossibleHead, weights: Mapping[str, Tensor], words: Tensor, config: CheckpointConfig
) -> tuple[HeadShape, dict[str, Tensor]] | None:
    of_vocabulary = {each.head.vocabulary_matrix, *each.head.vocabulary_biases}
    if not each.promised and each.head.vocabulary_matrix and not of_vocabulary & weights.keys():
        return None  # what is there of its other layers may belong to another head
    try:
        return convert_head(each, weights, words, config.shape, tied=config.heads.tied)
    except CheckpointError:
        if each.promised:
            raise
        return None  # an incomplete head that the checkpoint's class does not name


def convert_head(
    each: PossibleHead, weights: Mapping[str, Tensor], words: Tensor, encoder: EncoderShape, *, tied: bool
) -> tuple[HeadShape, dict[str, Tensor]]:
    """Return a head's shape and weights, float32, by our names within it.

    The shape says whether the head's matrix is `words`. weights: by the checkpoint's names of today. tied: a missing
    matrix is `words`, as in transformers; one that is there is used. Raises CheckpointError that names what is missing
    or of a wrong shape.
    """
    head, shape = each.head, each.shape
    sources = {ours: next((name for name in names if name in weights), "") for ours, names in _names(head).items()}
    if head.vocabulary_matrix:
        shape = replace(shape, tied=_is_tied(weights.get(head.vocabulary_matrix), words, tied))
    expected = weight_shapes(encoder, shape)
    zeros = {ours: torch.zeros(expected[ours]) for ours in expected if ours in each.optional and not sources[ours]}
    missing = [_names(head)[ours][-1] for ours in expected if not sources[ours] and ours not in zeros]
    if shape.reads_pooler and not encoder.has_pooler:
        missing.append("pooler.dense.weight")
    if missing:
        raise CheckpointError(f"the checkpoint lacks weights of its head {head.name}: {', '.join(missing)}")
    there = {ours: wanted for ours, wanted in expected.items() if ours not in zeros}
    for ours, wanted in there.items():
        found = weights[sources[ours]].shape
        if found != wanted:
            raise CheckpointError(f"weight {sources[ours]} is {list(found)}, and config.json says {list(wanted)}")
    return shape, zeros | {ours: joined([weights[sources[ours]]], (sources[ours],)) for ours in there}


def _is_tied(matrix: Tensor | None, words: Tensor, tied: bool) -> bool:
    """Return whether one copy of the matrix will do. Pickles always hold one, even where it is the embeddings'."""
    return tied if matrix is None else torch.equal(matrix.to(torch.float32), words)


def _names(head: Head) -> dict[str, tuple[str, ...]]:
    """Map our name of each weight to the names that a checkpoint may have for it, in order of preference."""
    names: dict[str, tuple[str, ...]] = {
        f"{ours}.{part}": (f"{theirs}.{part}",) for ours, theirs in head.modules.items() for part in PARTS
    }
    if head.vocabulary_matrix:
        return names | {MATRIX: (head.vocabulary_matrix,), "bias": head.vocabulary_biases}
    return names


def _all_names(head: Head) -> set[str]:
    return {name for names in _names(head).values() for name in names}
