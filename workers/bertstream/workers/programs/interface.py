"""Define what is asked of a compiled model, whatever runs it: TorchScript, a CUDA graph of that, or a stand-in.

T tokens of n texts lie end to end; H is the hidden size, V the vocabulary's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from bertstream.workers.contract import Pooling, PoolingMode


@dataclass(frozen=True, slots=True)
class AttentionOptions:
    """Say which attention weights to compute.

    The rest of the batch uses the fast kernels, which do not keep them.
    """

    layers: tuple[int, ...]  # ascending, from 1 to the model's last
    texts: tuple[int, ...]  # places in the batch
    heads: tuple[int, ...]  # from 0


@dataclass(frozen=True, slots=True)
class ForwardResult:
    """Hold the states and attention weights of one pass."""

    states: list[Tensor]  # [T, H] of each layer asked for, in that order
    weights: list[list[Tensor]]  # of each layer and text asked for: [heads, n, n] float32, rows sum to 1


@dataclass(frozen=True, slots=True)
class Encoded:
    """Hold the states of a batch and, where they were computed too, its texts' vectors."""

    states: Mapping[int, Tensor]  # [T, H] by layer
    vectors: Mapping[Pooling, Tensor] = field(default_factory=dict)  # [n, d] float32


def source_layers(pooling: Pooling, last_layer: int) -> tuple[int, ...]:
    """Return the layers whose states a text's vector is made of."""
    return (last_layer,) if pooling.mode == "pooler" else pooling.layers


def with_sources(layers: Iterable[int], poolings: Iterable[Pooling], last_layer: int) -> list[int]:
    """Return these layers, and those that the vectors are made of, ascending."""
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
        """Return the states of these layers, 0 being the embeddings; there may be no layers.

        ids, type_ids: [T]. For each pooling it returns either the vectors, or the states of the layers that they are
        made of.
        """

    def forward(
        self,
        ids: Tensor,
        type_ids: Tensor | None,
        lengths: list[int],
        layers: list[int],
        attention: AttentionOptions | None = None,
        attended: list[int] | None = None,
    ) -> ForwardResult:
        """Return the states of these layers and attention weights, from one pass.

        attended: [n] how many of each text's first tokens are attended to, by those behind them too; None: all.
        """

    def embed(self, ids: Tensor, type_ids: Tensor | None, lengths: list[int]) -> Tensor:
        """Return the embeddings' output.

        ids, type_ids: [T] -> [T, H].
        """

    def advance(
        self,
        states: Tensor,
        lengths: list[int],
        start: int,
        layers: list[int],
        attention: AttentionOptions | None = None,
    ) -> ForwardResult:
        """Go on from the states [T, H] of layer `start`."""

    def pooler(self, first: Tensor) -> Tensor:
        """Apply the model's own pooler to first tokens.

        first: [n, H] -> [n, H].
        """

    def pool(self, states: Tensor, lengths: list[int], mode: str, skipped: int = 0) -> Tensor:
        """Return one vector a text.

        states: [T, H] -> [n, H], by "checkpoint" [n, D]. skipped: the number of tokens of each text that come before
        the first one given.
        """

    @property
    def whole_text_heads(self) -> Mapping[str, PoolingMode]:
        """Return the heads that read all of a text's tokens, and how these are pooled.

        Pooling by "checkpoint" gives their logits; by another mode, what `logits` reads.
        """

    @property
    def vocabulary_size(self) -> int:
        """Return V, the size of the vocabulary, for the logits of "fill_mask"."""

    def logits(self, head: str, states: Tensor) -> Tensor:
        """Return logits from the last layer's states of the tokens that the head reads.

        states: [rows, H] -> [rows, outputs].
        """

    def span_logits(self, head: str, states: Tensor, labels: int) -> Tensor:
        """Return logits of the spans of one text's words, by the head "zero_shot_entities".

        states: [C + W, H], the last layer's of the text's labels and of its words -> [W, K, C] float32.
        """

    def weights_of(self, ids: Tensor) -> Tensor:
        """Return the weights that ids have whatever the text, by the head "static_weights".

        ids: [T] -> [T] float32.
        """


class RecordableProgram(Program, Protocol):
    """Describe a program whose kernels can be recorded, since it computes without reading a value on the device."""

    @property
    def poolings(self) -> tuple[Pooling, ...]:
        """Return the poolings to record, all of the last layer."""

    def last_states(self, ids: Tensor, type_ids: Tensor | None, cu_seqlens: Tensor, longest: int) -> Tensor:
        """Return the last layer's states [T, H].

        ids, type_ids: [T]; cu_seqlens: [n + 1] int32.
        """

    def pool_at(self, states: Tensor, cu_seqlens: Tensor, mode: str) -> Tensor:
        """Return one vector a text, finite for empty texts too.

        states: [T, H]; cu_seqlens: [n + 1] int32, to at most T -> [n, H] float32.
        """


class GeneratingProgram(Protocol):
    """Define what is asked of a compiled model that generates.

    Only the program itself looks into the cache's tensors.
    """

    def new_cache(self, rows: int) -> list[Tensor]:
        """Make room for the keys and values of this many tokens."""

    def prefill(
        self, cache: list[Tensor], ids: Tensor, type_ids: Tensor | None, lengths: list[int], rows: Tensor
    ) -> Tensor:
        """Compute a decoder's prompts, laid end to end.

        ids, rows: [T] -> logits [n, V] after each prompt's last token.
        """

    def encode_source(
        self, cache: list[Tensor], ids: Tensor, type_ids: Tensor | None, lengths: list[int], rows: Tensor
    ) -> None:
        """Compute an encoder's texts, laid end to end, for the decoder.

        ids, rows: [T].
        """

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
        """Compute one token of each of B sequences (batching.Step) -> logits [B, V] float32."""
