"""Describe the shape of an encoder, whatever its architecture, and the shapes of heads and modules around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

# ATen's; by our C++ operators, of weights that are packed for them; of int8; of 8-bit floats, with states in bfloat16
Products = Literal["plain", "packed", "int8", "fp8"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderShape:
    """Hold the sizes that all architectures have.

    Each adds its own sizes and switches, in a class beside its modules. A family's tables fill it in from config.json.
    A ValueError of the constructor is shown to the user, so it uses the names of config.json.
    """

    # The settings that count something, and the most that each may be, far above any real model's, so that a false
    # number in config.json makes us allocate nothing.
    COUNTS: ClassVar[Mapping[str, int]] = {
        "vocabulary_size": 1 << 24,
        "type_vocabulary_size": 1 << 16,
        "hidden_size": 1 << 16,
        "embedding_size": 1 << 16,
        "layers": 1 << 10,
        "attention_heads": 1 << 10,
    }

    TAILS: ClassVar[bool] = True  # whether texts may have tokens at their end that are not attended to

    vocabulary_size: int
    hidden_size: int
    layers: int
    attention_heads: int
    layer_norm_eps: float  # of heads too
    embedding_size: int  # of word embeddings, and of the vectors that a head over the vocabulary multiplies with them
    type_vocabulary_size: int = 0  # 0 for no segment embeddings
    has_pooler: bool = False

    @property
    def max_tokens(self) -> int:
        """Return the length of the longest text that the positions allow."""
        raise NotImplementedError

    def place(self, layer: int) -> tuple[int, ...]:
        """Return the numbers, from 0, by which a checkpoint names a layer's weights."""
        return (layer,)


@dataclass(frozen=True, slots=True)
class Operators:
    """Say which of several ways a program computes.

    All have the same numbers, except int8 and fp8.
    """

    native: bool = False  # bertstream's C++ operators instead of ATen's
    flash: bool = False  # CUDA's flash attention over packed texts instead of runs of equal length
    products: Products = "plain"  # of the layers
    others: Products = "plain"  # of heads, poolers and projections, whose weights are never of 8 bits
    amx: bool = False  # whether weights are packed for its tiles, float32 in three parts
    bfloat16: bool = False  # whether packed weights in bfloat16 stay that, or become float32
    epilogue: bool = False  # whether CUDA's GELU at the end of a plain product may be switched on, for the tanh forms

    @property
    def beside_layers(self) -> Operators:
        """Return the operators of what is not one of the layers."""
        return replace(self, products=self.others)


# What a head of whole texts reads of each: its first token's state, or the mean of all tokens' states.
TextPooling = Literal["cls", "mean"]


@dataclass(frozen=True, slots=True)
class HeadShape:
    """Hold the sizes and switches of a task head, which the family's tables and config.json fill in."""

    name: str  # one of contract.HeadName
    outputs: int  # logits in a row; the vocabulary's size for "vocabulary", the most words of a span for "spans"
    kind: str = "linear"  # one of heads.KINDS
    tied: bool = True  # for "vocabulary": the matrix is that of the word embeddings
    reads_pooler: bool = False  # reads what the pooler makes of the first token, not its state
    has_dense: bool = False  # whether there is a layer before the last one
    has_norm: bool = False  # whether a LayerNorm follows that layer and its activation; always so for "vocabulary"
    activation: str = ""  # after the dense layer; "" for none
    pooling: TextPooling = "cls"  # for heads of whole texts
    steps: tuple[VectorShape, ...] = ()  # for "steps": what is done to each token's state, one after the other
    width: int = 0  # for "spans", as is the next: of words' and labels' vectors
    recurrent_layers: int = 0  # LSTMs that read the words first


@dataclass(frozen=True, slots=True)
class VectorShape:
    """Describe one of sentence-transformers' modules that turn each text's, or each token's, vector into another."""

    kind: Literal["dense", "layer_norm", "normalize"]
    inputs: int
    outputs: int
    bias: bool = True  # for "dense", as are all that follow
    activation: str = "Identity"  # a class of torch.nn
    residual: bool = False  # adds the input to the output


@dataclass(frozen=True, slots=True)
class SentenceShape:
    """Describe what sentence-transformers' modules make of the last states; empty where there are no modules."""

    modes: tuple[str, ...] = ()  # pooling modes, whose vectors are concatenated
    steps: tuple[VectorShape, ...] = ()


NO_SENTENCE = SentenceShape()
