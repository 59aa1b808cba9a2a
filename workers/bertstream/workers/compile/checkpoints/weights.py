"""Read weights from safetensors or pytorch_model.bin, and rename them to ours by the family's table."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

from bertstream.workers.compile.checkpoints.families import Family
from bertstream.workers.compile.sources.bounds import shown
from bertstream.workers.compile.sources.errors import CheckpointError
from bertstream.workers.compile.sources.weight_files import SINGLE
from bertstream.workers.models import EncoderShape, encoder_weight_shapes

_STARTS = (b"PK", b"\x80")  # of a zip file, and of a pickle of protocol 2 or later: what torch.save writes
PARTS = ("weight", "bias")
SHOWN = 8


def read_weights(files: list[Path], progress: Callable[[int, int], None]) -> dict[str, Tensor]:
    """Return all tensors by the checkpoint's own names.

    progress: called with the number of files read, and of all files.
    """
    weights: dict[str, Tensor] = {}
    for number, path in enumerate(files):
        progress(number, len(files))
        weights.update(_read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path))
    progress(len(files), len(files))
    return weights


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, safetensors.SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} is not a sound safetensors file: {error}") from error


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        _refuse_other_files(path)
        _refuse_compressed(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is not weights alone, so it is refused: it could run code. Save it as {SINGLE}"
        ) from error
    except CheckpointError:
        raise
    except Exception as error:  # the unpickler may raise any error for a damaged file
        raise CheckpointError(f"{path} is not a sound weights file: {_damage(error)}") from error
    if not isinstance(weights, Mapping) or not all(isinstance(w, Tensor) for w in weights.values()):
        raise CheckpointError(f"{path} is not a table of tensors by name")
    for name, weight in weights.items():
        if weight.numel() * weight.element_size() > weight.untyped_storage().nbytes():
            raise CheckpointError(f"{path}: weight {shown(name)} is larger than what the file has of it")
    return dict(weights)


def _refuse_compressed(path: Path) -> None:
    """Refuse compressed parts: torch writes none, and a small file may unpack to any size."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as parts:
        for part in parts.infolist():
            if part.compress_type != zipfile.ZIP_STORED:
                raise CheckpointError(
                    f"{path} has the compressed part {shown(part.filename)}, which torch does not write"
                )


def _refuse_other_files(path: Path) -> None:
    """Refuse what begins neither as a zip file nor as a pickle; torch would tell of its letters as of commands."""
    with path.open("rb") as file:
        start = file.read(16)
    if start and not start.startswith(_STARTS):
        about = f"it begins with {start!r}, and not as a zip file or a pickle does"
        raise CheckpointError(f"{path} is not a sound weights file: {about}")


def _damage(error: Exception) -> str:
    """Return what is wrong with a file, of an error that torch or its unpickler raised."""
    first, kind = _first_line(error), type(error).__name__
    if isinstance(error, RuntimeError | OSError):
        return first
    return f"its pickle is damaged ({kind})" if first == kind else f"its pickle is damaged ({kind}: {first})"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def convert_weights(weights: Mapping[str, Tensor], family: Family, shape: EncoderShape) -> dict[str, Tensor]:
    """Return an encoder's weights by our names, float32, without the pooler where the checkpoint has none.

    Raises CheckpointError that names what is missing and what is unexpected.
    """
    found = _encoder_weights(weights, family)
    shape = replace(shape, has_pooler=family.has_pooler(found))
    return _converted(found, family, {ours: family.sources(ours, shape.place) for ours in encoder_weight_shapes(shape)})


def convert_named(weights: Mapping[str, Tensor], family: Family, names: Collection[str]) -> dict[str, Tensor]:
    """Convert just these weights, by our names within an encoder or a decoder. Raises CheckpointError as above."""
    return _converted(_encoder_weights(weights, family), family, {ours: family.sources(ours) for ours in names})


def _converted(found: Mapping[str, Tensor], family: Family, wanted: Mapping[str, tuple[str, ...]]) -> dict[str, Tensor]:
    """Return our weights, by the names of those that each is made of; what is made of the same is one tensor."""
    _check_names(found, {name for sources in wanted.values() for name in sources}, family.unread)
    parts = {ours: (sources, family.half(ours)) for ours, sources in wanted.items()}
    whole = {
        (sources, half): joined([_part(found[name], half) for name in sources], sources)
        for sources, half in dict.fromkeys(parts.values())
    }
    made = {ours: whole[part] for ours, part in parts.items()}
    return made | {ours: arrange(made[ours]) for ours, arrange in family.arranged.items() if ours in made}


def _part(weight: Tensor, half: int | None) -> Tensor:
    """Return the first or second half of the rows, of which a checkpoint that fits has an even number."""
    if half is None or not weight.dim():
        return weight
    size = weight.size(0) // 2
    return weight[half * size : (half + 1) * size]


def _encoder_weights(weights: Mapping[str, Tensor], family: Family) -> dict[str, Tensor]:
    """Return the encoder's weights without heads, buffers and prefix, by today's names."""
    prefixes = (family.prefix, *family.other_prefixes)
    starts = [each for each in prefixes if any(name.startswith(f"{each}embeddings.") for name in weights)]
    prefix = starts[0] if starts else ""
    found = {}
    for name, tensor in weights.items():
        if name.startswith(family.head_prefixes):
            continue
        name = todays_name(name.removeprefix(prefix), family)
        if name not in family.buffers:
            found[name] = tensor
    return found


def todays_name(name: str, family: Family) -> str:
    """Return today's name of a weight, which an old release may have named otherwise."""
    for old, new in family.renamed.items():
        name = name.removesuffix(old) + new if name.endswith(old) else name
    return name


def _check_names(found: Mapping[str, Tensor], wanted: set[str], unread: tuple[str, ...]) -> None:
    problems = [
        f"{what} {len(names)} ({', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''})"
        for what, names in (
            ("missing", sorted(wanted - found.keys())),
            ("unexpected", sorted(found.keys() - wanted - {*unread})),
        )
        if names
    ]
    if problems:
        raise CheckpointError("the checkpoint's weights do not fit its config.json: " + "; ".join(problems))


def joined(tensors: list[Tensor], names: tuple[str, ...]) -> Tensor:
    """Return the tensors concatenated along the first axis, as a float32 copy. Raises CheckpointError."""
    for tensor, name in zip(tensors, names, strict=True):
        if not tensor.is_floating_point():
            raise CheckpointError(f"weight {name} has type {tensor.dtype}; quantized checkpoints are not supported")
    try:
        return torch.cat([tensor.to(torch.float32) for tensor in tensors])
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"weights {', '.join(names)} do not fit together: {_first_line(error)}") from error
