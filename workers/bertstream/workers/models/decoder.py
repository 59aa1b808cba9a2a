"""Run BERT's layers from cached keys and values, one token a sequence, for a decoder alone or one with an encoder.

The cache is a pool of token rows: for each layer one tensor [2, rows, H], keys and values. The caller says which rows
make up a sequence, so sequences may share them.
T tokens of prompts, B sequences, H hidden size, h heads of D.
"""

from __future__ import annotations

from dataclasses import dataclass

# TorchScript reads these annotations, and knows only the old spellings.
from typing import List, NamedTuple, Optional  # noqa: UP035

import torch
from torch import Tensor, nn
from torch.nn import functional

from bertstream.workers.models.bert import BertEmbeddings, BertEncoder, BertLayer, BertShape
from bertstream.workers.models.fused import LinearAddNorm
from bertstream.workers.models.heads import VocabularyHead
from bertstream.workers.models.linear import Linear
from bertstream.workers.models.segments import Segments
from bertstream.workers.models.shape import HeadShape, Operators


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """Describe the decoder of an encoder-decoder."""

    shape: BertShape  # causal
    head: HeadShape  # the head over the vocabulary


class Past(NamedTuple):
    """Hold the cached tokens that each of B sequences attends to, up to M; made once a step, used by every layer."""

    rows: Tensor  # [B, M] int64
    lengths: Tensor  # [B] int64, how many of them count
    mask: Tensor  # [B, 1, 1, M], True where there is a token


def past_of(rows: Tensor, lengths: Tensor) -> Past:
    """Return the cached tokens of sequences.

    rows: [B, M], padded with any valid rows; lengths: [B], each at least 1.
    """
    places = torch.arange(rows.size(1), device=rows.device)
    return Past(rows, lengths, (places < lengths.unsqueeze(1)).view(rows.size(0), 1, 1, -1))


def write(cache: Tensor, rows: Tensor, keys_values: Tensor) -> None:
    """Write keys and values to rows of the cache.

    cache: [2, rows, H]; rows: [T]; keys_values: [T, 2H].
    """
    cache.index_copy_(1, rows, keys_values.view(rows.size(0), 2, -1).transpose(0, 1))


class CachedAttention(nn.Module):
    """Attend to cached tokens with one query a sequence, in C++ without a copy of them."""

    __constants__ = ("heads", "native")

    def __init__(self, heads: int, operators: Operators) -> None:
        super().__init__()
        self.heads = heads
        self.native = operators.native and not operators.flash  # those for GPUs have no such operator

    def own(self, qkv: Tensor, cache: Tensor, rows: Tensor, past: Past) -> Tensor:
        """Cache each sequence's keys and values, and attend to all of its own.

        qkv: [B, 3H]; cache: [2, rows, H]; rows: [B], the last ones of `past` -> [B, H].
        """
        if self.native:
            return torch.ops.bertstream.decode_attention(qkv, cache, rows, past.rows, past.lengths, self.heads)
        else:
            hidden = cache.size(2)
            write(cache, rows, qkv[:, hidden:])
            return self.gathered(qkv[:, :hidden], cache, past)

    def others(self, q: Tensor, cache: Tensor, past: Past) -> Tensor:
        """Attend to tokens that are cached already.

        q: [B, H]; cache: [2, rows, H] -> [B, H].
        """
        if self.native:
            return torch.ops.bertstream.decode_attention(q, cache, None, past.rows, past.lengths, self.heads)
        else:
            return self.gathered(q, cache, past)

    def gathered(self, q: Tensor, cache: Tensor, past: Past) -> Tensor:
        """Attend to a copy of the cached tokens. q: [B, H]; cache: [2, rows, H] -> [B, H]."""
        sequences = q.size(0)
        found = cache.index_select(1, past.rows.reshape(-1)).view(2, sequences, past.rows.size(1), self.heads, -1)
        k, v = found.transpose(2, 3).unbind(0)  # each [B, h, M, D]
        q = q.view(sequences, self.heads, 1, -1)
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=past.mask).reshape(sequences, -1)


def empty_cache(layers: int, rows: int, hidden: int, like: Tensor) -> List[Tensor]:  # noqa: UP006
    """Make a cache, [2, rows, hidden] for each layer, on the device and of the type of `like`.

    It is filled with zeros, since a mask would not hide NaN.
    """
    return [torch.zeros([2, rows, hidden], dtype=like.dtype, device=like.device) for _ in range(layers)]


class CausalLayer(BertLayer):
    """Compute an encoder's layer with a decoder's attention, for whole texts or a token at a time."""

    def __init__(self, shape: BertShape, operators: Operators) -> None:
        super().__init__(shape, operators)
        self.cached_attention = CachedAttention(shape.attention_heads, operators)

    def prefill(self, x: Tensor, segments: Segments, cache: Tensor, rows: Tensor) -> Tensor:
        """Compute whole prompts.

        x: [T, H]; cache: [2, rows, H]; rows: [T] -> [T, H].
        """
        qkv = self.query_key_value(x)
        write(cache, rows, qkv[:, x.size(1) :])
        return self.feed_forward(self.attention_output(self.attention(qkv, None, segments), x))

    def step(self, x: Tensor, cache: Tensor, rows: Tensor, past: Past) -> Tensor:
        """Compute one token a sequence.

        x: [B, H]; rows: [B], where its own keys and values go -> [B, H].
        """
        return self.feed_forward(self.self_attend(x, cache, rows, past))

    def self_attend(self, x: Tensor, cache: Tensor, rows: Tensor, past: Past) -> Tensor:
        """Attend to the sequence's own past. x: [B, H] -> [B, H]."""
        return self.attention_output(self.cached_attention.own(self.query_key_value(x), cache, rows, past), x)


class CausalEncoder(BertEncoder):
    """Encode and generate as a decoder alone, with one copy of the layers."""

    __constants__ = ("any_lengths", "has_pooler", "hidden_size", "layer_count")

    def __init__(self, shape: BertShape, operators: Operators) -> None:
        super().__init__(shape, operators)
        self.layer_count, self.hidden_size = shape.layers, shape.hidden_size
        self.layers = nn.ModuleList([CausalLayer(shape, operators) for _ in range(shape.layers)])

    def new_cache(self, rows: int) -> List[Tensor]:  # noqa: UP006
        """Make room for the keys and values of `rows` tokens: [2, rows, H] for each layer."""
        return empty_cache(self.layer_count, rows, self.hidden_size, self.words())

    def prefill(
        self,
        cache: List[Tensor],  # noqa: UP006
        ids: Tensor,
        type_ids: Optional[Tensor],  # noqa: UP045
        where: Segments,
        rows: Tensor,
    ) -> Tensor:
        """Compute whole prompts.

        ids, type_ids, rows: [T] -> [n, H], the states of each prompt's last token.
        """
        x = self.embed(ids, type_ids, where)
        for i, layer in enumerate(self.layers):
            x = layer.prefill(x, where, cache[i], rows)  # type: ignore[operator]
        return x[where.starts + where.lengths - 1]

    def step(
        self,
        cache: List[Tensor],  # noqa: UP006
        ids: Tensor,
        type_ids: Optional[Tensor],  # noqa: UP045
        positions: Tensor,
        rows: Tensor,
        past: Past,
    ) -> Tensor:
        """Compute one token a sequence.

        ids, type_ids, positions, rows: [B] -> [B, H].
        """
        x = self.embeddings.at(ids, type_ids, self.embeddings.positions_after(ids, positions))
        for i, layer in enumerate(self.layers):
            x = layer.step(x, cache[i], rows, past)  # type: ignore[operator]
        return x


class CrossAttention(nn.Module):
    """Attend from the decoder's tokens to the encoder's, whose keys and values are computed once and cached."""

    def __init__(self, shape: BertShape, operators: Operators) -> None:
        super().__init__()
        hidden = shape.hidden_size
        self.cached_attention = CachedAttention(shape.attention_heads, operators)
        self.query = Linear(hidden, hidden, operators)
        self.key_value = Linear(hidden, 2 * hidden, operators)
        self.output = LinearAddNorm(hidden, hidden, shape.layer_norm_eps, operators)

    def forward(self, x: Tensor, cache: Tensor, source: Past) -> Tensor:
        """Attend to the source. x: [B, H] -> [B, H]."""
        return self.output(self.cached_attention.others(self.query(x), cache, source), x)


class CrossLayer(CausalLayer):
    """Compute a decoder's layer in an encoder-decoder: attention to its own past, to the source, then the network."""

    def __init__(self, shape: BertShape, operators: Operators) -> None:
        super().__init__(shape, operators)
        self.cross_attention = CrossAttention(shape, operators)

    def read_source(self, states: Tensor, cache: Tensor, rows: Tensor) -> None:
        """Cache the keys and values of the source.

        states: [T, H] of source tokens; cache: [2, rows, H]; rows: [T].
        """
        write(cache, rows, self.cross_attention.key_value(states))

    def step_across(self, x: Tensor, cache: Tensor, rows: Tensor, past: Past, source: Past) -> Tensor:
        """Compute one token a sequence, as step does, with attention to the source.

        x: [B, H] -> [B, H].
        """
        x = self.self_attend(x, cache, rows, past)
        return self.feed_forward(self.cross_attention(x, cache, source))


class Decoder(nn.Module):
    """Run the decoder of an encoder-decoder, which has embeddings and a vocabulary of its own."""

    __constants__ = ("hidden_size", "layer_count")

    def __init__(self, decoder: DecoderShape, source_size: int, operators: Operators) -> None:
        super().__init__()
        shape = decoder.shape
        self.layer_count, self.hidden_size = shape.layers, shape.hidden_size
        self.embeddings = BertEmbeddings(shape, operators)
        hidden = shape.hidden_size
        own = operators.beside_layers
        self.projection = Linear(source_size, hidden, own) if source_size != hidden else nn.Identity()
        self.layers = nn.ModuleList([CrossLayer(shape, operators) for _ in range(shape.layers)])
        self.head = VocabularyHead(shape, decoder.head, operators)

    def new_cache(self, rows: int) -> List[Tensor]:  # noqa: UP006
        """Make room for the keys and values of `rows` tokens: [2, rows, H] for each layer."""
        return empty_cache(self.layer_count, rows, self.hidden_size, self.embeddings.word.weight)

    def read_source(self, states: Tensor, cache: List[Tensor], rows: Tensor) -> None:  # noqa: UP006
        """Cache the keys and values of the encoder's last states, at `rows` of every layer's cache.

        states: [T, source_size]; rows: [T].
        """
        states = self.projection(states)
        for i, layer in enumerate(self.layers):
            layer.read_source(states, cache[i], rows)  # type: ignore[operator]

    def step(
        self,
        cache: List[Tensor],  # noqa: UP006
        ids: Tensor,
        positions: Tensor,
        rows: Tensor,
        past: Past,
        source: Past,
    ) -> Tensor:
        """Compute the next logits of each sequence.

        ids, positions, rows: [B] -> [B, V] float32.
        """
        x = self.embeddings.at(ids, None, self.embeddings.positions_after(ids, positions))
        for i, layer in enumerate(self.layers):
            x = layer.step_across(x, cache[i], rows, past, source)  # type: ignore[operator]
        return self.head(x, self.embeddings.word.weight).to(torch.float32)
