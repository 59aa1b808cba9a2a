"""EncodeSparse: how much each id of the vocabulary says about a text (SPLADE)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.kinds import TextKind
from bertstream.server.core.plans import prompt_for
from bertstream.server.core.sent import ChoiceLists, SentItems
from bertstream.server.core.tasks.base import HeadModel, Rows, Share, Task, pick, require_head
from bertstream.server.core.tasks.texts import tokenize
from bertstream.server.core.tokenization import Ids, TokenizeOptions, Truncation
from bertstream.workers.contract import HeadName, HeadOptions, OutputOptions, SparsePooling
from bertstream.workers.programs.description import ModelDescription

HEAD: HeadName = "fill_mask"
LEXICAL: HeadName = "lexical_weights"
STATIC: HeadName = "static_weights"
_WITHOUT_WEIGHT = ("cls", "eos", "pad", "unk")  # roles of tokens, as in BGE-M3's own code


@dataclass(frozen=True, slots=True)
class SparseVectors:
    """Hold the ids that have a weight, by their number, and their weights, text by text."""

    weight_counts: NDArray[np.generic]  # of each text
    token_ids: NDArray[np.generic]
    weights: NDArray[np.generic]
    tokens: Sequence[str]  # the ids as text, if asked for


@dataclass(frozen=True)
class EncodeSparse(Task[None]):
    """Makes a row for each text, with its prompt before it."""

    tokenize: TokenizeOptions
    prompt: str
    prompt_asked: bool  # by the caller, rather than by the checkpoint
    shows_tokens: bool

    def prepare(self, sent: SentItems) -> Rows[None]:
        assert not isinstance(sent.inputs, ChoiceLists)
        prompt = prompt_for(sent.inputs, self.prompt, asked=self.prompt_asked, path=sent.option("prompt"))
        texts = tokenize(self.model, sent.inputs, self.tokenize, sent, prompt=prompt)
        return Rows(texts.batch, texts.tokens.text_indexes, texts.failed, texts.tokens.truncated, None)

    def answer(self, rows: Rows[None], share: Share) -> SparseVectors:
        counts, ids, weights = (share.tensors[f"sparse_weights.{name}"] for name in ("counts", "ids", "weights"))
        return SparseVectors(counts, ids, weights, self._spelled(ids) if self.shows_tokens else ())

    def least_bytes(self, share: Share) -> int:
        return sum(share.tensors[f"sparse_weights.{name}"].nbytes for name in ("ids", "weights"))

    def _spelled(self, ids: NDArray[np.generic]) -> list[str]:
        distinct, which = np.unique(ids, return_inverse=True)
        each = Ids(distinct.astype(np.int32), np.ones(distinct.size, np.int32))
        return pick(self.model.tokenizer.detokenize(each, skip_special_tokens=False).texts, which.ravel())


def encode_sparse(
    model: HeadModel,
    truncation: Truncation,
    priority: int,
    *,
    prompt: str = "",
    prompt_asked: bool = False,
    top_k: int = 0,
    shows_tokens: bool = False,
    kind: TextKind | None = None,
) -> EncodeSparse:
    """Return the task that weighs ids for each text, all of them or the best `top_k`.

    Raises HEAD_NOT_AVAILABLE for a model that has neither logits of its vocabulary nor weights of its own tokens.
    """
    require_weights(model.description)
    options = head_options(model.description, top_k, kind)
    output_options = OutputOptions(("sparse_weights",), head=options)
    tokenize_options = TokenizeOptions(truncation)
    if options.name == STATIC:  # whose tokens are those of the text alone
        tokenize_options = replace(tokenize_options, add_special_tokens=False)
    return EncodeSparse(model, output_options, priority, tokenize_options, prompt, prompt_asked, shows_tokens)


def require_weights(description: ModelDescription) -> None:
    """Raise HEAD_NOT_AVAILABLE if the model weighs neither its vocabulary nor the text's own tokens."""
    if LEXICAL not in description.heads:
        require_head(description, HEAD)


def head_options(description: ModelDescription, top_k: int, kind: TextKind | None) -> HeadOptions:
    """Return how to weigh ids: by the text's own tokens where the checkpoint has weights for them."""
    if kind == "query" and STATIC in description.heads:
        return HeadOptions(STATIC, top_k=top_k)
    if LEXICAL in description.heads:
        return replace(lexical_options(description), top_k=top_k)
    return HeadOptions(HEAD, top_k=top_k, sparse=pooling_of(description))


def lexical_options(description: ModelDescription) -> HeadOptions:
    """Return how to weigh a text's own tokens."""
    special = description.special_tokens
    return HeadOptions(LEXICAL, skipped=tuple(special[role][1] for role in _WITHOUT_WEIGHT if role in special))


def own_top_k(description: ModelDescription) -> int:
    """Return how many weights a text may have where the caller does not say; 0: all."""
    return 0 if description.sparse_pooling is None else description.sparse_pooling.top_k


def pooling_of(description: ModelDescription) -> SparsePooling:
    """Return how the checkpoint pools, by the maximum where it does not say."""
    own = description.sparse_pooling
    return SparsePooling() if own is None else SparsePooling(own.strategy, own.activation)
