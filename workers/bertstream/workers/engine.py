"""One batch through the program: join the columns, run, pool, and split the outputs by work again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from bertstream.workers.contract import Pooling, WireType, Wishes, Work
from bertstream.workers.ragged import Ints, rows_of, starts_of


class Program(Protocol):
    """What the engine asks of a compiled model. T tokens of n texts lie end to end; H is the hidden size."""

    def hidden_states(
        self, ids: Tensor, type_ids: Tensor | None, lengths: list[int], layers: list[int]
    ) -> list[Tensor]:
        """ids [T], type_ids [T] -> the states [T, H] of each layer asked for; 0 is the embeddings."""

    def pooler(self, first: Tensor) -> Tensor:
        """The model's own pooler. first [n, H] -> [n, H]."""

    def pool(self, states: Tensor, lengths: list[int], mode: str) -> Tensor:
        """states [T, H] -> [n, H]."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch ready to compute. Its texts are sorted by length, so that equal lengths are neighbours."""

    works: tuple[Work, ...]
    ids: Tensor  # [T]
    type_ids: Tensor | None  # [T]
    lengths: list[int]  # [n], descending
    place: Ints  # [n]: where text i of the works, end to end, stands in the batch
    starts: Ints  # [n]: where the batch's texts start
    last_layer: int


def prepare(works: Sequence[Work], last_layer: int, device: str = "cpu") -> Prepared:
    """Joins the works' texts into one batch."""
    lengths = np.concatenate([work.batch.lengths for work in works])
    order = np.argsort(-lengths, kind="stable")
    rows = rows_of(starts_of(lengths)[order], lengths[order])
    ids = np.concatenate([work.batch.ids for work in works])[rows]
    type_ids = _join_type_ids(works)
    place = np.empty(order.size, np.int64)
    place[order] = np.arange(order.size)
    return Prepared(
        works=tuple(works),
        ids=torch.from_numpy(ids).to(device),
        type_ids=None if type_ids is None else torch.from_numpy(type_ids[rows]).to(device),
        lengths=lengths[order].tolist(),
        place=place,
        starts=starts_of(lengths[order]),
        last_layer=last_layer,
    )


def run(program: Program, batch: Prepared) -> list[dict[str, Tensor]]:
    """The outputs of each work, by name, in the wire's types, as CPU tensors in the work's own order of texts."""
    with torch.inference_mode():
        layers = sorted({layer for work in batch.works for layer in _layers(work.wishes, batch.last_layer)})
        states = program.hidden_states(batch.ids, batch.type_ids, batch.lengths, layers)
        outputs = _Outputs(program, batch, dict(zip(layers, states, strict=True)))
        ends = np.cumsum([work.batch.lengths.size for work in batch.works]).tolist()
        return [
            outputs.of(work, batch.place[start:end])
            for work, (start, end) in zip(batch.works, pairwise([0, *ends]), strict=True)
        ]


class _Outputs:
    """Derives outputs from the layers' states, each thing once a batch."""

    def __init__(self, program: Program, batch: Prepared, states: dict[int, Tensor]) -> None:
        self._program = program
        self._batch = batch
        self._states = states
        self._pooled: dict[tuple[object, ...], Tensor] = {}
        self._pooler: Tensor | None = None

    def of(self, work: Work, place: Ints) -> dict[str, Tensor]:
        """The outputs of the texts that stand at these places of the batch."""
        found: dict[str, Tensor] = {}
        for name in work.wishes.outputs:
            if name == "pooled":
                assert work.wishes.pooling is not None
                values = self._finish(work.wishes.pooling, self._rows(self._pool(work.wishes.pooling), place))
            elif name == "pooler_output":
                values = self._rows(self._pooler_output(), place)
            else:
                lengths = work.batch.lengths
                values = self._rows(self._states[self._batch.last_layer], rows_of(self._batch.starts[place], lengths))
            found |= to_wire(name, values, work.wishes.wire_type)
        return found

    @staticmethod
    def _rows(values: Tensor, rows: Ints) -> Tensor:
        return values.index_select(0, torch.from_numpy(rows).to(values.device))

    def _pool(self, pooling: Pooling) -> Tensor:
        """[n, d] of all texts of the batch, neither cut nor normalised."""
        if pooling.mode == "pooler":
            return self._pooler_output()
        key = (pooling.mode, pooling.layers, pooling.combination)
        if key not in self._pooled:
            self._pooled[key] = self._combine_and_pool(pooling)
        return self._pooled[key]

    def _combine_and_pool(self, pooling: Pooling) -> Tensor:
        states = [self._states[layer].float() for layer in pooling.layers]
        lengths = self._batch.lengths
        if pooling.combination == "concatenate":
            return torch.cat([self._program.pool(each, lengths, pooling.mode) for each in states], dim=1)
        total = states[0]
        for each in states[1:]:
            total = total + each
        if pooling.combination == "mean" and len(states) > 1:
            total = total / len(states)
        return self._program.pool(total, lengths, pooling.mode)

    def _pooler_output(self) -> Tensor:
        if self._pooler is None:
            first = self._rows(self._states[self._batch.last_layer], self._batch.starts)
            self._pooler = self._program.pooler(first).float()
        return self._pooler

    @staticmethod
    def _finish(pooling: Pooling, pooled: Tensor) -> Tensor:
        if pooling.dimensions:
            pooled = pooled[:, : pooling.dimensions]
        return torch.nn.functional.normalize(pooled, dim=1) if pooling.normalize else pooled


def to_wire(name: str, values: Tensor, wire_type: WireType) -> dict[str, Tensor]:
    """values [n, d] in the wire's type, on the CPU. int8 is symmetric with a scale a row: "NAME.scales" float32 [n]."""
    if wire_type == "int8":
        values = values.float()
        scales = values.abs().amax(dim=1) / 127.0
        quantised = (values / scales.clamp(min=torch.finfo(torch.float32).tiny).unsqueeze(1)).round()
        return {name: quantised.clamp(-127, 127).to(torch.int8).cpu(), f"{name}.scales": scales.cpu()}
    if wire_type == "bfloat16":
        return {name: values.to(torch.bfloat16).cpu().contiguous().view(torch.int16)}
    return {name: values.to(torch.float16 if wire_type == "float16" else torch.float32).cpu().contiguous()}


def _layers(wishes: Wishes, last_layer: int) -> set[int]:
    pooling = wishes.pooling
    needs_last = set(wishes.outputs) - {"pooled"} or (pooling is not None and pooling.mode == "pooler")
    layers = {last_layer} if needs_last else set()
    if "pooled" in wishes.outputs and pooling is not None and pooling.mode != "pooler":
        layers |= set(pooling.layers)
    return layers


def _join_type_ids(works: Sequence[Work]) -> np.ndarray[tuple[int], np.dtype[np.int32]] | None:
    if all(work.batch.type_ids is None for work in works):
        return None
    columns = [np.zeros_like(w.batch.ids) if w.batch.type_ids is None else w.batch.type_ids for w in works]
    return np.concatenate(columns)
