"""Read the weights of queries' tokens that do not depend on the text (sentence-transformers' SparseStaticEmbedding)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bertstream.workers.compile.checkpoints.tokenizer_versions import token_ids
from bertstream.workers.compile.checkpoints.weights import joined, read_weights
from bertstream.workers.compile.sources.bounds import shown
from bertstream.workers.compile.sources.errors import CheckpointError
from bertstream.workers.compile.sources.files import read_object
from bertstream.workers.compile.sources.weight_files import weight_files


def read_static_weights(folder: Path, ids: Mapping[str, int], vocabulary_size: int) -> Tensor:
    """Return the weight of each id of the model's vocabulary, [V] float32, 0 where the checkpoint has none.

    ids: of all tokens. Raises CheckpointError.
    """
    own = read_object(folder / "tokenizer.json")
    if own and token_ids(own) != dict(ids):
        raise CheckpointError(f"{folder} has another vocabulary than the encoder, which is not supported")
    path = str(read_object(folder / "config.json").get("path") or "")
    found = _of_tokens(folder, path, ids) if path.endswith(".json") else _of_tensor(folder)
    if len(found) > vocabulary_size or not bool((found >= 0).all()) or not bool(found.isfinite().all()):
        raise CheckpointError(f"{folder}: weights must be numbers of 0 or more, for at most {vocabulary_size} tokens")
    weights = torch.zeros(vocabulary_size)
    weights[: len(found)] = found
    return weights


def _of_tensor(folder: Path) -> Tensor:
    found = read_weights(weight_files(folder), lambda done, total: None)
    if found.keys() != {"weight"} or found["weight"].dim() != 1:
        raise CheckpointError(
            f"{folder} has {', '.join(sorted(found)) or 'nothing'}, and should have one row of weights"
        )
    return joined([found["weight"]], ("weight",))


def _of_tokens(folder: Path, path: str, ids: Mapping[str, int]) -> Tensor:
    """Return the weights of a table by token."""
    if Path(path).name != path:
        raise CheckpointError(f"{folder / 'config.json'} names the path {path!r}, outside its folder")
    table: dict[str, Any] = read_object(folder / path)
    weights = torch.zeros(max(ids.values(), default=0) + 1)
    for token, weight in table.items():
        if token not in ids or isinstance(weight, bool) or not isinstance(weight, int | float):
            raise CheckpointError(f"{folder / path}: {shown(token)} must be a token of the vocabulary with a number")
        if not math.isfinite(weight):
            raise CheckpointError(f"{folder / path}: the weight of {shown(token)} must be finite")
        weights[ids[token]] = float(weight)
    return weights
