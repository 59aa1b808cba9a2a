"""Define whole models that generate, as they are scripted and saved: they encode as any Model, and use a cache."""

from __future__ import annotations

from collections.abc import Sequence

# TorchScript reads these annotations, and knows only the old spellings.
from typing import List, Optional  # noqa: UP035

import torch
from torch import Tensor

from bertstream.workers.models.architectures import causal_encoder_of
from bertstream.workers.models.decoder import Decoder, DecoderShape, past_of
from bertstream.workers.models.model import Model
from bertstream.workers.models.segments import segments
from bertstream.workers.models.shape import EncoderShape, HeadShape, Operators, SentenceShape

CAUSAL = "causal_lm"  # the head whose presence makes a model a CausalModel


class CausalModel(Model):
    """Generate with a decoder alone."""

    def __init__(
        self, shape: EncoderShape, operators: Operators, heads: Sequence[HeadShape], sentence: SentenceShape
    ) -> None:
        super().__init__(shape, operators, heads, sentence)
        self.encoder = causal_encoder_of(shape, operators)

    @torch.jit.export
    def new_cache(self, rows: int) -> List[Tensor]:  # noqa: UP006
        """Make room for the keys and values of `rows` tokens: [2, rows, H] for each layer."""
        return self.encoder.new_cache(rows)  # type: ignore[operator]

    @torch.jit.export
    def prefill(
        self,
        cache: List[Tensor],  # noqa: UP006
        ids: Tensor,
        type_ids: Optional[Tensor],  # noqa: UP045
        lengths: List[int],  # noqa: UP006
        rows: Tensor,
    ) -> Tensor:
        """Compute whole prompts.

        ids, type_ids, rows: [T]; lengths: [n] -> [n, V] float32, the logits after each prompt's last token.
        """
        where = segments(lengths, ids.device)
        return self.next_logits(self.encoder.prefill(cache, ids, type_ids, where, rows))  # type: ignore[operator]

    @torch.jit.export
    def step(
        self,
        cache: List[Tensor],  # noqa: UP006
        ids: Tensor,
        positions: Tensor,
        rows: Tensor,
        past: Tensor,
        past_lengths: Tensor,
        type_ids: Optional[Tensor],  # noqa: UP045
    ) -> Tensor:
        """Compute one token a sequence.

        ids, positions, rows, past_lengths, type_ids: [B]; past: [B, M] -> [B, V] float32.
        """
        own = past_of(past, past_lengths)
        states = self.encoder.step(cache, ids, type_ids, positions, rows, own)  # type: ignore[operator]
        return self.next_logits(states)

    def next_logits(self, states: Tensor) -> Tensor:
        """Return the logits of the next tokens. states: [M, H] -> [M, V] float32."""
        return self.logits("causal_lm", states).to(torch.float32)


class EncoderDecoder(Model):
    """Generate with an encoder, and a decoder that attends to it."""

    def __init__(
        self,
        shape: EncoderShape,
        operators: Operators,
        heads: Sequence[HeadShape],
        decoder: DecoderShape,
        sentence: SentenceShape,
    ) -> None:
        super().__init__(shape, operators, heads, sentence)
        self.layer_count = shape.layers
        self.decoder = Decoder(decoder, shape.hidden_size, operators)

    @torch.jit.export
    def new_cache(self, rows: int) -> List[Tensor]:  # noqa: UP006
        """Make room for the keys and values of `rows` tokens: [2, rows, H] for each layer of the decoder."""
        return self.decoder.new_cache(rows)

    @torch.jit.export
    def encode_source(
        self,
        cache: List[Tensor],  # noqa: UP006
        ids: Tensor,
        type_ids: Optional[Tensor],  # noqa: UP045
        lengths: List[int],  # noqa: UP006
        rows: Tensor,
    ) -> None:
        """Run the encoder, and cache what the decoder's layers attend to.

        ids, type_ids, rows: [T]; lengths: [n].
        """
        states = self.forward(ids, type_ids, lengths, [self.layer_count])[0]
        self.decoder.read_source(states, cache, rows)

    @torch.jit.export
    def step(
        self,
        cache: List[Tensor],  # noqa: UP006
        ids: Tensor,
        positions: Tensor,
        rows: Tensor,
        past: Tensor,
        past_lengths: Tensor,
        source: Tensor,
        source_lengths: Tensor,
    ) -> Tensor:
        """Compute one token a sequence, as CausalModel.step does without types, with attention to the source.

        source: [B, S]; source_lengths: [B] -> [B, V] float32.
        """
        return self.decoder.step(
            cache, ids, positions, rows, past_of(past, past_lengths), past_of(source, source_lengths)
        )
