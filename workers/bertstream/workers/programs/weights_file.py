"""Keep a program's weights in a file of their own, which all workers of one machine map: it is in memory once.

    8 bytes: the index's length, little-endian | the index, JSON | the tensors, each aligned

The index has the file's size and each tensor's name, type, shape and offset. Names of one tensor have one offset.
"""

from __future__ import annotations

import errno
import math
import mmap
import os
import sys
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import msgspec
import torch
from msgspec import Meta, Struct
from torch import Tensor

FILE_NAME = "weights.bin"
_LENGTH_BYTES = 8
_CACHE_LINE, _PAGE = 64, 4096
_MADV_POPULATE_READ = 22  # since Linux 5.14; Python does not define it
_PIECE_BYTES = 64 << 20  # read at once


class WeightsError(Exception):
    """The file is missing, damaged, or another program's."""


_Natural = Annotated[int, Meta(ge=0)]


class TensorEntry(Struct, frozen=True):
    """Say where a tensor lies."""

    dtype: str  # "float32"
    shape: tuple[_Natural, ...]
    offset: _Natural  # from the first tensor's place: a multiple of 64, and of 4096 for tensors of a page or more

    def __post_init__(self) -> None:
        if not isinstance(getattr(torch, self.dtype, None), torch.dtype):
            raise ValueError(f"{self.dtype} is not a type of numbers")

    @property
    def count(self) -> int:
        """Return the number of elements."""
        return math.prod(self.shape)

    @property
    def end(self) -> int:
        """Return the offset behind its last byte."""
        return self.offset + self.count * self.torch_dtype.itemsize

    @property
    def torch_dtype(self) -> torch.dtype:
        """Return its type as torch's."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype


class Index(Struct, frozen=True):
    """Hold the index at the start of the file."""

    size: _Natural  # bytes of all tensors, with the gaps between them
    tensors: dict[str, TensorEntry]


def take_out(module: Any, path: Path) -> None:
    """Write a scripted module's parameters and buffers to a file, and leave empty ones in their places."""
    tensors = dict(_tensors(module))
    _write(tensors, path)
    for name, tensor in tensors.items():
        _set(module, name, torch.empty(0, dtype=tensor.dtype))


def put_back(module: Any, file: BinaryIO, device: torch.device) -> None:
    """Put the tensors of a file into a module, on the CPU as pages of the file itself. Raises WeightsError."""
    index, start = _read_index(file)
    names = {name for name, _ in _tensors(module)}
    if other := sorted(names ^ index.keys()):
        raise WeightsError(f"{file.name} belongs to another program: {other[0]} is not in both")
    try:
        mapped = _map(file)
    except OSError as error:
        raise WeightsError(f"{file.name} cannot be read ({error})") from error
    placed: dict[int, Tensor] = {}  # by offset, so that a tensor under two names stays one
    for name, entry in index.items():
        if entry.offset not in placed:
            placed[entry.offset] = _view(mapped, start, entry).to(device)
        _set(module, name, placed[entry.offset])


def _tensors(module: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors under each of their names."""
    return chain(module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False))


def _set(module: Any, name: str, tensor: Tensor) -> None:
    *path, attribute = name.split(".")
    for part in path:
        module = getattr(module, part)
    module._c.setattr(attribute, tensor)


def _write(tensors: Mapping[str, Tensor], path: Path) -> None:
    entries = _lay_out(tensors)
    size = max((entry.end for entry in entries.values()), default=0)
    index = msgspec.json.encode(Index(size, entries))
    with path.open("wb") as file:
        file.write(len(index).to_bytes(_LENGTH_BYTES, "little") + index)
        start = _start(len(index))
        for offset, tensor in {entry.offset: tensors[name] for name, entry in entries.items()}.items():
            file.seek(start + offset)
            file.write(_bytes(tensor))
        file.truncate(start + size)


def _lay_out(tensors: Mapping[str, Tensor]) -> dict[str, TensorEntry]:
    entries: dict[str, TensorEntry] = {}
    placed: dict[tuple[Any, ...], int] = {}
    end = 0
    for name, tensor in tensors.items():
        # Empty tensors have no address to tell them apart, and need no place of their own.
        same = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if same not in placed:
            placed[same] = _aligned(end, _PAGE if tensor.nbytes >= _PAGE else _CACHE_LINE)
            end = placed[same] + max(tensor.nbytes, 1)  # no two of them at one offset
        entries[name] = TensorEntry(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), placed[same])
    return entries


def _bytes(tensor: Tensor) -> memoryview:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    content: memoryview = flat.view(torch.uint8).numpy().data
    return content


def _read_index(file: BinaryIO) -> tuple[dict[str, TensorEntry], int]:
    """Return the index and where the tensors start, after a check that the file is complete.

    Reading beyond its end would be a SIGBUS later.
    """
    try:
        content = os.fstat(file.fileno()).st_size
        text = _read_text(file, content)
        found = msgspec.json.decode(text, type=Index)
    except (OSError, ValueError) as error:
        raise WeightsError(f"{file.name} cannot be read ({error})") from error
    start = _start(len(text))
    if content != start + found.size or any(entry.end > found.size for entry in found.tensors.values()):
        raise WeightsError(f"{file.name} is cut or damaged: it has {content} bytes, not {start + found.size}")
    return found.tensors, start


def _read_text(file: BinaryIO, content: int) -> bytes:
    file.seek(0)
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    if length > content:
        raise ValueError("its index is longer than the file")
    return file.read(length)


def _map(file: BinaryIO) -> mmap.mmap:
    """Map the file, sharing its pages with all who map it; whoever writes to them gets a copy of his own.

    All of it is read at once, so that no batch waits for the disk, and a file that cannot be read is found now. Raises
    OSError.
    """
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    if sys.platform == "linux":
        try:
            for start in range(0, len(mapped), _PIECE_BYTES):  # Python's other threads wait for each
                mapped.madvise(_MADV_POPULATE_READ, start, min(_PIECE_BYTES, len(mapped) - start))
        except OSError as error:
            if error.errno != errno.EINVAL:  # an older Linux does not know the advice, and reads pages as they are used
                raise
    return mapped


def _view(mapped: mmap.mmap, start: int, entry: TensorEntry) -> Tensor:
    if not entry.count:
        return torch.empty(entry.shape, dtype=entry.torch_dtype)
    flat = torch.frombuffer(mapped, dtype=entry.torch_dtype, count=entry.count, offset=start + entry.offset)
    return flat.view(entry.shape)


def _start(index_bytes: int) -> int:
    return _aligned(_LENGTH_BYTES + index_bytes, _PAGE)


def _aligned(offset: int, to: int) -> int:
    return -(-offset // to) * to
