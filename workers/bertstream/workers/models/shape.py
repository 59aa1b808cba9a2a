"""The numbers that make one encoder differ from another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# ATen's; by AMX's tiles, for which C++ operators are needed; of int8; of 8-bit floats, for states in bfloat16
Products = Literal["plain", "packed", "int8", "fp8"]


@dataclass(frozen=True, slots=True)
class EncoderShape:
    """Sizes and switches of an encoder of the BERT kind; the family's tables fill them in from config.json."""

    vocabulary_size: int
    hidden_size: int
    layers: int
    attention_heads: int
    intermediate_size: int
    positions: int  # rows of the position table
    type_vocabulary_size: int  # 0 for no segment embeddings
    activation: str
    layer_norm_eps: float
    embedding_size: int  # ELECTRA's is smaller than hidden_size, and projected
    positions_skip_padding: bool  # RoBERTa: the first real token has position pad_token_id + 1
    pad_token_id: int
    has_pooler: bool
    causal: bool = False  # a decoder's: a token attends to itself and what is before it

    @property
    def max_tokens(self) -> int:
        """The longest text that the position table allows."""
        return self.positions - (self.pad_token_id + 1 if self.positions_skip_padding else 0)


@dataclass(frozen=True, slots=True)
class Operators:
    """Which of several ways a program takes; but for int8 and fp8 they have the same numbers."""

    native: bool = False  # bertstream's C++ operators instead of ATen's
    flash: bool = False  # CUDA's flash attention over packed texts instead of runs of equal length
    products: Products = "plain"  # of linear layers
    epilogue: bool = False  # CUDA's GELU at the end of a plain product may be switched on, for the tanh forms


@dataclass(frozen=True, slots=True)
class HeadShape:
    """Sizes and switches of a task head; the family's tables and config.json fill them in."""

    name: str  # one of contract.HeadName
    outputs: int  # logits a row; the vocabulary's size for a VocabularyHead
    over_vocabulary: bool = False
    tied: bool = True  # of a head over the vocabulary: its matrix is that of the word embeddings
    reads_pooler: bool = False  # not the first token's state but what the pooler makes of it
    has_dense: bool = False  # a layer before the last one
    activation: str = ""  # after the dense layer; "" for none


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """The decoder of an encoder-decoder."""

    shape: EncoderShape  # causal
    head: HeadShape  # over the vocabulary


@dataclass(frozen=True, slots=True)
class VectorShape:
    """One of sentence-transformers' modules that make another vector of each text's."""

    kind: Literal["dense", "layer_norm", "normalize"]
    inputs: int
    outputs: int
    bias: bool = True  # as all that follows, of "dense"
    activation: str = "Identity"  # a class of torch.nn
    residual: bool = False  # adds what came in


@dataclass(frozen=True, slots=True)
class SentenceShape:
    """What sentence-transformers' modules make of the last layer's states; of nothing where there are no modes."""

    modes: tuple[str, ...] = ()  # of pooling, side by side
    steps: tuple[VectorShape, ...] = ()


NO_SENTENCE = SentenceShape()
