"""Read the weights of sentence-transformers' modules, each from its module's own folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from bertstream.workers.compile.checkpoints.sentence_settings import SentenceSettings
from bertstream.workers.compile.checkpoints.weights import joined, read_weights
from bertstream.workers.compile.sources.errors import CheckpointError
from bertstream.workers.compile.sources.weight_files import weight_files
from bertstream.workers.models import SENTENCE_PREFIX, sentence_weight_shapes


def read_sentence_weights(settings: SentenceSettings) -> dict[str, Tensor]:
    """Return the weights by a Model's names, float32. Raises CheckpointError that names what does not fit."""
    expected = sentence_weight_shapes(settings.shape)
    weights: dict[str, Tensor] = {}
    for prefix, folder in _steps(settings):
        own = {name.removeprefix(prefix): size for name, size in expected.items() if name.startswith(prefix)}
        if own:
            weights |= {prefix + name: tensor for name, tensor in read_module_weights(folder, own).items()}
    return weights


def _steps(settings: SentenceSettings) -> Iterator[tuple[str, Path]]:
    """Yield the prefix of each step's weights, and the folder that they are in."""
    for number, (_, folder) in enumerate(zip(settings.shape.steps, settings.folders, strict=True)):
        yield f"{SENTENCE_PREFIX}steps.{number}.", folder


def read_module_weights(folder: Path, expected: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Return the weights of one module, float32, by its own names. Raises CheckpointError as above."""
    found = read_weights(weight_files(folder), lambda done, total: None)
    if found.keys() != expected.keys():
        raise CheckpointError(
            f"{folder} has the weights {', '.join(sorted(found))}, and should have {', '.join(sorted(expected))}"
        )
    for name, wanted in expected.items():
        if found[name].shape != wanted:
            shapes = f"{list(found[name].shape)}, and config.json says {list(wanted)}"
            raise CheckpointError(f"{folder}: weight {name} is {shapes}")
    return {name: joined([found[name]], (name,)) for name in expected}
