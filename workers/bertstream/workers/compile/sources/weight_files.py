"""Find the files that hold a checkpoint's weights, without reading them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from bertstream.workers.compile.sources.errors import CheckpointError
from bertstream.workers.compile.sources.files import read_object
from bertstream.workers.compile.sources.modules import (
    KINDS_WITH_WEIGHTS,
    read_modules,
    static_weights_folder,
    transformer_folder,
)
from bertstream.workers.compile.sources.stand_ins import refuse_stand_in

SINGLE, SHARDED = "model.safetensors", "model.safetensors.index.json"
# BGE-M3's heads, a linear layer each: for a vector of each token, and for its weight.
MULTI_VECTOR_WEIGHTS, LEXICAL_WEIGHTS = TOKEN_WEIGHTS = ("colbert_linear.pt", "sparse_linear.pt")
PICKLED, PICKLED_SHARDED = "pytorch_model.bin", "pytorch_model.bin.index.json"


def weight_files(directory: Path) -> list[Path]:
    """Return the files that hold the weights, safetensors before pickles.

    Raises CheckpointError where there are none, or one of them is obviously something else.
    """
    files = _weight_files(directory)
    for path in files:
        refuse_stand_in(path)  # before gigabytes beside it are read
    return files


def all_weight_files(root: Path) -> list[Path]:
    """Return the weight files of the encoder, and of the modules that have any.

    Raises CheckpointError where the encoder has none.
    """
    encoder = transformer_folder(root)
    files = weight_files(encoder)
    static = static_weights_folder(root)
    own = {module.folder for module in read_modules(root) if module.kind in KINDS_WITH_WEIGHTS}
    for folder in (own | ({static} if static is not None else set())) - {encoder}:
        with suppress(CheckpointError):  # whoever needs these weights will complain
            files += weight_files(folder)
    return files + [root / name for name in TOKEN_WEIGHTS if (root / name).is_file()]


def _weight_files(directory: Path) -> list[Path]:
    for single, index in ((SINGLE, SHARDED), (PICKLED, PICKLED_SHARDED)):
        if (directory / single).exists():
            return [directory / single]
        if (directory / index).exists():
            return _shards(directory, index)
    raise CheckpointError(f"{directory} has no weights: neither {SINGLE}, nor {SHARDED}, nor {PICKLED}")


def _shards(directory: Path, index: str) -> list[Path]:
    names = read_object(directory / index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise CheckpointError(f"{directory / index} has no weight_map")
    shards = sorted({str(name) for name in names.values()})
    for name in shards:
        # An index comes from outside, so it may name only files beside it.
        if Path(name).name != name or not (directory / name).exists():
            raise CheckpointError(f"{directory / index} names {name!r}, which is not there")
    return [directory / name for name in shards]
