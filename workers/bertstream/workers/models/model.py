"""Define a whole model, as it is scripted and saved: an encoder of any architecture, and what is made of its states."""

from __future__ import annotations

from collections.abc import Sequence

# TorchScript reads these annotations, and knows only the old spellings.
from typing import List, Optional, Tuple  # noqa: UP035

import torch
from torch import Tensor, nn

from bertstream.workers.models.architectures import encoder_of
from bertstream.workers.models.attention import Wanted, wanted_weights
from bertstream.workers.models.heads import SPANS, new_head
from bertstream.workers.models.pooling import POOLINGS, PoolingModule
from bertstream.workers.models.segments import Segments, segments, segments_at, segments_with_tails
from bertstream.workers.models.sentence import SentenceModules
from bertstream.workers.models.shape import NO_SENTENCE, EncoderShape, HeadShape, Operators, SentenceShape


class Model(nn.Module):
    """Combine an encoder, task heads and sentence-transformers' modules."""

    def __init__(
        self,
        shape: EncoderShape,
        operators: Operators,
        heads: Sequence[HeadShape] = (),
        sentence: SentenceShape = NO_SENTENCE,
        static_weights: int = 0,
    ) -> None:
        super().__init__()
        self.encoder = encoder_of(shape, operators)
        # Keyed by name. A loop over no heads leaves nothing in the program.
        by_rows = [head for head in heads if head.kind != SPANS]
        self.heads = nn.ModuleDict({head.name: new_head(shape, head, operators) for head in by_rows})
        self.span_heads = nn.ModuleList([new_head(shape, head, operators) for head in heads if head.kind == SPANS])
        self.poolings = nn.ModuleDict({mode: PoolingModule(mode) for mode in POOLINGS})
        self.sentence = SentenceModules(sentence, operators)
        self.static = nn.ModuleList([StaticWeights(static_weights)] if static_weights else [])

    def forward(
        self,
        ids: Tensor,
        type_ids: Optional[Tensor],  # noqa: UP045
        lengths: List[int],  # noqa: UP006
        layers: List[int],  # noqa: UP006
    ) -> List[Tensor]:  # noqa: UP006
        """Return the states [T, H] of each of `layers`, 0 being the embeddings.

        ids, type_ids: [T]. No layer above the highest of them is run.
        """
        none: List[int] = []  # noqa: UP006
        return self.forward_with_weights(ids, type_ids, lengths, lengths, layers, none, none, none)[0]

    @torch.jit.export
    def embed(self, ids: Tensor, type_ids: Optional[Tensor], lengths: List[int]) -> Tensor:  # noqa: UP006, UP045
        """Compute layer 0.

        ids, type_ids: [T] -> [T, H].
        """
        return self.encoder.embed(ids, type_ids, segments(lengths, ids.device))

    @torch.jit.export
    def last_states(self, ids: Tensor, type_ids: Optional[Tensor], cu_seqlens: Tensor, longest: int) -> Tensor:  # noqa: UP045
        """Return the last layer's states of texts that are laid out on the device already, as a CUDA graph needs it.

        ids, type_ids: [T]; cu_seqlens: [n + 1] int32, from 0 to T; texts have at most `longest` tokens, or none -> [T,
        H]. Raises RuntimeError where attention takes only runs of equal length.
        """
        if not self.encoder.any_lengths:
            raise RuntimeError("attention takes only texts of equal length here")
        where = segments_at(cu_seqlens, ids.size(0), longest)
        nothing = Wanted(where.runs, torch.empty([0], dtype=torch.int64, device=ids.device))
        last = [len(self.encoder.layers)]
        none: List[int] = []  # noqa: UP006
        return self.encoder.run(self.encoder.embed(ids, type_ids, where), where, 0, last, none, nothing)[0][0]

    @torch.jit.export
    def forward_with_weights(
        self,
        ids: Tensor,
        type_ids: Optional[Tensor],  # noqa: UP045
        lengths: List[int],  # noqa: UP006
        attended: List[int],  # noqa: UP006
        layers: List[int],  # noqa: UP006
        weight_layers: List[int],  # noqa: UP006
        texts: List[int],  # noqa: UP006
        heads: List[int],  # noqa: UP006
    ) -> Tuple[List[Tensor], List[List[Tensor]]]:  # noqa: UP006
        """Return states as forward does, and attention weights as advance does.

        Of each text only the first `attended` tokens are attended to. Those behind them have states all the same, of
        what they attend to: so ColBERT expands its queries. Weights are not those of such texts.
        """
        where = segments_with_tails(lengths, attended, ids.device)
        wanted = wanted_weights(texts, heads, lengths, ids.device)
        x = self.encoder.embed(ids, type_ids, where)
        return self.encoder.run(x, where, 0, layers, weight_layers, wanted)

    @torch.jit.export
    def advance(
        self,
        states: Tensor,
        lengths: List[int],  # noqa: UP006
        start: int,
        layers: List[int],  # noqa: UP006
        weight_layers: List[int],  # noqa: UP006
        texts: List[int],  # noqa: UP006
        heads: List[int],  # noqa: UP006
    ) -> Tuple[List[Tensor], List[List[Tensor]]]:  # noqa: UP006
        """Go on from layer `start`'s states [T, H]: return the states of `layers`, and the weights of `weight_layers`.

        Weights are a list for each layer: [w, n, n] float32 for each of `texts`, the w `heads` of a text of n tokens.
        """
        wanted = wanted_weights(texts, heads, lengths, states.device)
        return self.encoder.run(states, segments(lengths, states.device), start, layers, weight_layers, wanted)

    @torch.jit.export
    def pooled_first(self, first: Tensor) -> Tensor:
        """Apply the model's own pooler to first tokens.

        first: [n, H] -> [n, H].
        """
        return self.encoder.pooler(first)

    @torch.jit.export
    def pool(self, states: Tensor, lengths: List[int], mode: str, skipped: int) -> Tensor:  # noqa: UP006
        """Return one vector a text.

        states: [T, H] -> [n, H] float32, by "checkpoint" [n, D]; skipped: as poolings take it.
        """
        where = segments(lengths, states.device)
        if mode == "pooler":
            return self.encoder.pooler(states[where.starts]).to(torch.float32)
        return self.pool_segments(states, where, mode, skipped)

    @torch.jit.export
    def pool_at(self, states: Tensor, cu_seqlens: Tensor, mode: str) -> Tensor:
        """Pool texts that are laid out on the device already by any mode but "pooler", as a CUDA graph needs it.

        states: [T, H]; cu_seqlens: [n + 1] int32, from 0 to at most T -> [n, H] float32, by "checkpoint" [n, D]; 0 for
        a text of no tokens.
        """
        where = segments_at(cu_seqlens, states.size(0), 0)
        pooled = self.pool_segments(states, where, mode, 0)
        return pooled.masked_fill((where.lengths == 0).unsqueeze(1), 0.0)

    def pool_segments(self, states: Tensor, where: Segments, mode: str, skipped: int) -> Tensor:
        """Pool by any mode but "pooler".

        states: [T, H] -> [n, H] float32, by "checkpoint" [n, D].
        """
        if mode == "checkpoint":
            return self.sentence(states, where, skipped)
        for key, pooling in self.poolings.items():
            if key == mode:
                return pooling(states, where, skipped)
        raise RuntimeError("there is no such pooling")

    @torch.jit.export
    def logits(self, name: str, states: Tensor) -> Tensor:
        """Run the head of that name, by way of the pooler where it reads that.

        states: [M, H] -> [M, outputs].
        """
        logits = states
        for key, head in self.heads.items():
            if key == name:
                logits = head(self.encoder.pooler(states) if head.reads_pooler else states, self.encoder.words())
        return logits

    @torch.jit.export
    def span_logits(self, states: Tensor, labels: int) -> Tensor:
        """Score the spans of one text's words by its labels.

        states: [C + W, H], of the `labels`, then of the words -> [W, K, C] float32.
        """
        logits = states
        for head in self.span_heads:
            logits = head(states, labels)
        return logits

    @torch.jit.export
    def weights_of(self, ids: Tensor) -> Tensor:
        """Return the weights that these ids have in any text.

        ids: [T] -> [T] float32.
        """
        weights = torch.zeros([0], device=ids.device)
        for each in self.static:
            weights = each(ids)
        return weights


class StaticWeights(nn.Module):
    """Weigh ids whatever the text that they are in."""

    def __init__(self, vocabulary_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(vocabulary_size))

    def forward(self, ids: Tensor) -> Tensor:
        """Look up the weights. ids: [T] -> [T]."""
        return self.weight[ids]
