"""What is asked of a compiled model, whatever runs it: TorchScript, a CUDA graph of that, or what takes their place.

T tokens of n texts lie end to end; H is the hidden size, V the vocabulary's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from bertstream.workers.contract import Pooling


@dataclass(frozen=True, slots=True)
class AttentionOptions:
    """Which attention weights to write down. The rest of the batch takes the fast way, which never has them."""

    layers: tuple[int, ...]  # ascending, from 1 to the model's last
    texts: tuple[int, ...]  # places in the batch
    heads: tuple[int, ...]  # from 0


@dataclass(frozen=True, slots=True)
class Advanced:
    """The states and attention weights of one pass."""

    states: list[Tensor]  # [T, H] of each layer asked for, in that order
    weights: list[list[Tensor]]  # of each layer asked for and each text: [heads, n, n] float32, rows sum to 1


@dataclass(frozen=True, slots=True)
class Encoded:
    """The states of a batch and, where they came along, its texts' vectors."""

    states: Mapping[int, Tensor]  # [T, H] by layer
    vectors: Mapping[Pooling, Tensor] = field(default_factory=dict)  # [n, d] float32


def source_layers(pooling: Pooling, last_layer: int) -> tuple[int, ...]:
    """Return the layers whose states a text's vector is made of."""
    return (last_layer,) if pooling.mode == "pooler" else pooling.layers


def with_sources(layers: Iterable[int], poolings: Iterable[Pooling], last_layer: int) -> list[int]:
    """Return these layers and those that the vectors are made of, ascending."""
    return sorted({*layers, *(layer for each in poolings for layer in source_layers(each, last_layer))})


class Program(Protocol):
    """What the engine asks of a compiled model."""

    def encode(
        self,
        ids: Tensor,
        type_ids: Tensor | None,
        lengths: list[int],
        layers: list[int],
        poolings: frozenset[Pooling],
    ) -> Encoded:
        """ids, type_ids: [T] -> the states of these layers, 0 being the embeddings, which may be none.

        Of each pooling it gives either the vectors or the states of the layers that they are made of.
        """

    def forward(
        self,
        ids: Tensor,
        type_ids: Tensor | None,
        lengths: list[int],
        layers: list[int],
        attention: AttentionOptions | None = None,
    ) -> Advanced:
        """Return the states of these layers and attention weights, by one pass."""

    def embed(self, ids: Tensor, type_ids: Tensor | None, lengths: list[int]) -> Tensor:
        """ids, type_ids: [T] -> the embeddings' output [T, H]."""

    def advance(
        self,
        states: Tensor,
        lengths: list[int],
        start: int,
        layers: list[int],
        attention: AttentionOptions | None = None,
    ) -> Advanced:
        """From the states [T, H] of layer `start` on."""

    def pooler(self, first: Tensor) -> Tensor:
        """Return the model's own pooler. first [n, H] -> [n, H]."""

    def pool(self, states: Tensor, lengths: list[int], mode: str, skipped: int = 0) -> Tensor:
        """states [T, H] -> [n, H], by "checkpoint" [n, D]; before each text's first token so many were skipped."""

    @property
    def whole_text_heads(self) -> frozenset[str]:
        """Heads whose logits `pool` gives, by "checkpoint"."""

    @property
    def vocabulary_size(self) -> int:
        """V, of the logits of "fill_mask"."""

    def logits(self, head: str, states: Tensor) -> Tensor:
        """Return the last layer's states of the tokens that the head reads, [rows, H] -> [rows, outputs]."""


class RecordableProgram(Program, Protocol):
    """A program whose kernels can be recorded: that computes without looking at a value."""

    @property
    def poolings(self) -> tuple[Pooling, ...]:
        """The vectors to record, all of the last layer."""

    def last_states(self, ids: Tensor, type_ids: Tensor | None, cu_seqlens: Tensor, longest: int) -> Tensor:
        """ids, type_ids: [T]; cu_seqlens: [n + 1] int32 -> the last layer's states [T, H]"""

    def pool_at(self, states: Tensor, cu_seqlens: Tensor, mode: str) -> Tensor:
        """states: [T, H]; cu_seqlens: [n + 1] int32, to at most T -> [n, H] float32, finite for empty texts, too."""


class GeneratingProgram(Protocol):
    """What is asked of a compiled model that generates. The cache's tensors are the program's own affair."""

    def new_cache(self, rows: int) -> list[Tensor]:
        """Room for the keys and values of so many tokens."""

    def prefill(
        self, cache: list[Tensor], ids: Tensor, type_ids: Tensor | None, lengths: list[int], rows: Tensor
    ) -> Tensor:
        """Return a decoder's prompts, end to end: ids [T], rows [T] -> logits [n, V] of each one's last token."""

    def encode_source(
        self, cache: list[Tensor], ids: Tensor, type_ids: Tensor | None, lengths: list[int], rows: Tensor
    ) -> None:
        """An encoder's texts, end to end: ids [T], rows [T]."""

    def step(
        self,
        cache: list[Tensor],
        ids: Tensor,
        positions: Tensor,
        rows: Tensor,
        past: Tensor,
        past_lengths: Tensor,
        source: Tensor | None,
        source_lengths: Tensor | None,
        type_ids: Tensor | None,
    ) -> Tensor:
        """One token of each of B sequences (batching.Step) -> logits [B, V] float32."""
