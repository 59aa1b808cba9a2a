"""Turn sequences into tensors for one computation of a program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bertstream.workers.contract import Generate
from bertstream.workers.generation.sequences import TokenSequence
from bertstream.workers.ragged import Ints


@dataclass(frozen=True, slots=True)
class Inputs:
    """Hold n inputs end to end, T tokens in all."""

    ids: Tensor  # [T] int32
    type_ids: Tensor | None  # [T] int32
    lengths: list[int]  # [n]
    rows: Tensor  # [T] int64, where each token's keys and values go in the cache


@dataclass(frozen=True, slots=True)
class Step:
    """Hold the last token of each of B sequences."""

    ids: Tensor  # [B] int32
    type_ids: Tensor | None  # [B] int32, None: all 0
    positions: Tensor  # [B] int64, the number of tokens before it
    rows: Tensor  # [B] int64, where its keys and values go in the cache
    past: Tensor  # [B, M] int64, rows of all its sequence's tokens, its own last, padded
    past_lengths: Tensor  # [B] int64
    source: Tensor | None  # [B, S] int64, rows of the encoder's text, padded
    source_lengths: Tensor | None  # [B] int64


def inputs_of(works: Sequence[Generate], rows: Sequence[Ints], device: str) -> Inputs:
    """Join the inputs of works.

    rows: for each work, one row of the cache for each token.
    """
    type_ids = None
    if any(work.type_ids is not None for work in works):
        type_ids = np.concatenate([np.zeros_like(w.ids) if w.type_ids is None else w.type_ids for w in works])
    return Inputs(
        ids=_tensor(np.concatenate([work.ids for work in works]), device),
        type_ids=None if type_ids is None else _tensor(type_ids, device),
        lengths=[int(work.ids.size) for work in works],
        rows=_tensor(np.concatenate(rows), device),
    )


def step_of(sequences: Sequence[TokenSequence], device: str) -> Step:
    """Join the last tokens of sequences, each of which holds a row for it."""
    past, past_lengths = _padded([each.rows for each in sequences])
    sources = [each.source for each in sequences if each.source is not None]
    source, source_lengths = _padded(sources) if sources else (None, None)
    type_ids = np.array([each.type_id for each in sequences], np.int32)
    return Step(
        ids=_tensor(np.array([each.tokens[-1] for each in sequences], np.int32), device),
        type_ids=_tensor(type_ids, device) if type_ids.any() else None,
        positions=_tensor(past_lengths - 1, device),
        rows=_tensor(np.array([each.rows[-1] for each in sequences], np.int64), device),
        past=_tensor(past, device),
        past_lengths=_tensor(past_lengths, device),
        source=None if source is None else _tensor(source, device),
        source_lengths=None if source_lengths is None else _tensor(source_lengths, device),
    )


def _padded(rows: Sequence[Ints]) -> tuple[Ints, Ints]:
    """Return rows as [B, M], padded with the first row of each, which is a valid one, and their numbers [B]."""
    lengths = np.array([each.size for each in rows], np.int64)
    padded = np.empty((len(rows), int(lengths.max())), np.int64)
    for line, each in zip(padded, rows, strict=True):
        line[: each.size] = each
        line[each.size :] = each[0]
    return padded, lengths


def _tensor(array: NDArray[np.generic], device: str) -> Tensor:
    return torch.from_numpy(array).to(device)
