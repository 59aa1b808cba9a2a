"""Normalised, quantised and compared vectors, with the numbers of sentence-transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bertstream.adapters._needs import needs

Precision: TypeAlias = Literal["float32", "int8", "uint8", "binary", "ubinary"]
Similarity: TypeAlias = Literal["cosine", "dot", "euclidean", "manhattan"]
LEAST_NORM = 1e-12
BUCKETS = 255


def tensor(array: NDArray[Any]) -> Any:
    """Return a tensor of torch with the numbers of an array."""
    with needs("torch", "a tensor"):
        import torch
    return torch.from_numpy(np.ascontiguousarray(array))


def normalized(vectors: NDArray[Any]) -> NDArray[Any]:
    """Return vectors [n, d] scaled to a length of 1; one of zeros stays as it is."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, LEAST_NORM))


def quantized(vectors: NDArray[Any], precision: Precision) -> NDArray[Any]:
    """Return vectors [n, d] in a smaller type: int8 and uint8 [n, d], or a bit a dimension [n, ceil(d / 8)].

    int8 and uint8 divide what lies between the least and the greatest number of each dimension into 255 steps, and so
    need several vectors. Raises ValueError for one vector, and for another precision.
    """
    if precision == "float32" or not len(vectors):
        return vectors
    if precision in ("binary", "ubinary"):
        bits = np.packbits(vectors > 0, axis=-1)
        return bits if precision == "ubinary" else (bits.astype(np.int16) - 128).astype(np.int8)
    if precision not in ("int8", "uint8"):
        raise ValueError(f"precision must be float32, int8, uint8, binary or ubinary, not {precision!r}")
    if len(vectors) == 1:
        raise ValueError(f"{precision} needs several texts at once, whose vectors give the range of each dimension")
    least, greatest = vectors.min(axis=0), vectors.max(axis=0)
    step = (greatest - least) / BUCKETS
    levels = np.clip(np.floor((vectors - least) / np.where(step == 0, 1, step)), 0, BUCKETS)
    return np.asarray(levels.astype(np.uint8) if precision == "uint8" else (levels - 128).astype(np.int8))


def similarities(name: Similarity, first: Any, second: Any) -> Any:
    """Return the similarities of all vectors [n, d] to all others [m, d]: [n, m], tensors if one is."""
    rows, columns = np.atleast_2d(_array(first)), np.atleast_2d(_array(second))
    return _like(_MATRICES[_known(name)](rows, columns), first, second)


def pairwise(name: Similarity, first: Any, second: Any) -> Any:
    """Return the similarities of vectors [n, d] to those in the same places [n, d]: [n], tensors if one is."""
    return _like(_PAIRS[_known(name)](_array(first), _array(second)), first, second)


def _known(name: Similarity) -> Similarity:
    if name not in _MATRICES:
        raise ValueError(f"similarity_fn_name must be cosine, dot, euclidean or manhattan, not {name!r}")
    return name


def _array(vectors: Any) -> NDArray[Any]:
    if hasattr(vectors, "detach"):
        vectors = vectors.detach().cpu().numpy()
    elif isinstance(vectors, list | tuple):
        vectors = np.stack([_array(each) for each in vectors]) if vectors and np.ndim(vectors[0]) else vectors
    return np.asarray(vectors, np.float32)


def _like(found: NDArray[Any], *given: Any) -> Any:
    return tensor(found) if any(map(_is_tensor, given)) else found


def _is_tensor(vectors: Any) -> bool:
    return hasattr(vectors, "detach") or (isinstance(vectors, list | tuple) and any(map(_is_tensor, vectors)))


def _manhattan(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    # A row at a time, since all differences at once are [n, m, d].
    return -np.stack([np.abs(second - row).sum(axis=-1) for row in first])


def _euclidean(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    return -np.stack([np.linalg.norm(second - row, axis=-1) for row in first])


_Compare: TypeAlias = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]
_MATRICES: dict[Similarity, _Compare] = {
    "cosine": lambda first, second: normalized(first) @ normalized(second).T,
    "dot": lambda first, second: first @ second.T,
    "euclidean": _euclidean,
    "manhattan": _manhattan,
}
_PAIRS: dict[Similarity, _Compare] = {
    "cosine": lambda first, second: (normalized(first) * normalized(second)).sum(axis=-1),
    "dot": lambda first, second: (first * second).sum(axis=-1),
    "euclidean": lambda first, second: -np.linalg.norm(first - second, axis=-1),
    "manhattan": lambda first, second: -np.abs(first - second).sum(axis=-1),
}
