"""Find the heads that read each token's state by modules of their own, and read their weights.

"multi_vector" gives a vector of each token (ColBERT), "lexical_weights" its weight (BGE-M3).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from bertstream.workers.compile.checkpoints.head_weights import NO_HEADS, FoundHeads
from bertstream.workers.compile.checkpoints.multi_vector import STANFORD, MultiVectorSettings
from bertstream.workers.compile.checkpoints.sentence_weights import read_module_weights
from bertstream.workers.compile.checkpoints.weights import joined, read_weights
from bertstream.workers.compile.sources.errors import CheckpointError
from bertstream.workers.compile.sources.stand_ins import refuse_stand_in
from bertstream.workers.compile.sources.weight_files import LEXICAL_WEIGHTS, MULTI_VECTOR_WEIGHTS
from bertstream.workers.contract import HeadName
from bertstream.workers.models import EncoderShape, HeadShape, VectorShape, state_name, weight_shapes
from bertstream.workers.programs.description import MultiVectorDescription

PROJECTION = "linear.weight"  # of Stanford's ColBERT, among the encoder's weights
_MULTI_VECTOR: HeadName = "multi_vector"
_LEXICAL: HeadName = "lexical_weights"


def without_projection(weights: Mapping[str, Tensor], architecture: str) -> tuple[dict[str, Tensor], Tensor | None]:
    """Return the encoder's weights, and the projection of a checkpoint of Stanford's ColBERT beside them."""
    if architecture != STANFORD:
        return dict(weights), None
    return {name: each for name, each in weights.items() if name != PROJECTION}, weights.get(PROJECTION)


def find_token_heads(
    root: Path, settings: MultiVectorSettings | None, projection: Tensor | None, encoder: EncoderShape
) -> FoundHeads:
    """Return the heads that read each token's state. Raises CheckpointError that names what does not fit."""
    if settings is not None and settings.steps:
        return _of_settings(root, settings, projection, encoder)
    found = NO_HEADS
    for name, file in ((_MULTI_VECTOR, MULTI_VECTOR_WEIGHTS), (_LEXICAL, LEXICAL_WEIGHTS)):
        if (root / file).exists():
            found = joined_heads(found, _of_file(root / file, name, encoder.hidden_size))
    return found


def joined_heads(*found: FoundHeads) -> FoundHeads:
    """Return the heads of all of these."""
    shapes = tuple(shape for each in found for shape in each.shapes)
    weights = {name: weight for each in found for name, weight in each.weights.items()}
    return FoundHeads(shapes, weights, tuple(warning for each in found for warning in each.warnings))


def describe_file_head(heads: FoundHeads) -> MultiVectorDescription | None:
    """Return what BGE-M3's own code does with its vectors of tokens; None where there are none."""
    of_tokens = [head for head in heads.shapes if head.name == _MULTI_VECTOR]
    if not of_tokens:
        return None
    return MultiVectorDescription(of_tokens[0].outputs, "meanmaxsim", skips_first=True)


def _of_settings(
    root: Path, settings: MultiVectorSettings, projection: Tensor | None, encoder: EncoderShape
) -> FoundHeads:
    shape = HeadShape(_MULTI_VECTOR, settings.width, "steps", steps=settings.steps)
    weights: dict[str, Tensor] = {}
    for number, folder in enumerate(settings.folders):
        prefix = f"steps.{number}."
        own = {
            name.removeprefix(prefix): size
            for name, size in weight_shapes(encoder, shape).items()
            if name.startswith(prefix)
        }
        if own:
            read = _projection(root, projection, own) if folder is None else read_module_weights(folder, own)
            weights |= {state_name(shape, prefix + name): weight for name, weight in read.items()}
    return FoundHeads((shape,), weights, ())


def _projection(root: Path, projection: Tensor | None, expected: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    if projection is None:
        raise CheckpointError(f"{root}: the checkpoint lacks {PROJECTION}, the projection of its vectors")
    if projection.shape != expected[PROJECTION]:
        shapes = f"{list(projection.shape)}, and should be {list(expected[PROJECTION])}"
        raise CheckpointError(f"{root}: weight {PROJECTION} is {shapes}")
    return {PROJECTION: joined([projection], (PROJECTION,))}


def _of_file(path: Path, name: HeadName, hidden_size: int) -> FoundHeads:
    """Return the head of a file with one linear layer. A file of Python objects is refused."""
    refuse_stand_in(path)
    found = read_weights([path], lambda done, total: None)
    matrix = found.get("weight")
    if matrix is None or matrix.dim() != 2 or found.keys() - {"weight", "bias"}:
        raise CheckpointError(f"{path} has {', '.join(sorted(found)) or 'nothing'}, and should have weight and bias")
    outputs, bias = matrix.shape[0], found.get("bias")
    wanted = (1 if name == _LEXICAL else outputs, hidden_size)
    if matrix.shape != wanted or (bias is not None and bias.shape != (outputs,)):
        raise CheckpointError(f"{path}: weight is {list(matrix.shape)}, and should be {list(wanted)}")
    linear = VectorShape("dense", hidden_size, outputs, bias is not None, "ReLU" if name == _LEXICAL else "Identity")
    steps = (linear,) if name == _LEXICAL else (linear, VectorShape("normalize", outputs, outputs))
    shape = HeadShape(name, outputs, "steps", steps=steps)
    weights = {state_name(shape, f"steps.0.linear.{part}"): joined([each], (part,)) for part, each in found.items()}
    return FoundHeads((shape,), weights, ())
