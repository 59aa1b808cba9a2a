"""What is asked of an encoder's shape, whatever its architecture, and the shapes of what stands around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

# ATen's; by AMX's tiles, for which C++ operators are needed; of int8; of 8-bit floats, for states in bfloat16
Products = Literal["plain", "packed", "int8", "fp8"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderShape:
    """The sizes that all architectures have. Each adds its own sizes and switches, in a class beside its modules.

    A family's tables fill it in from config.json. A ValueError of the constructor is told to whoever has the
    checkpoint, with the names that config.json has.
    """

    # Settings that count something, and the most that each may be where config.json has it: far above any real
    # model's, so that nothing is allocated for a lie.
    COUNTS: ClassVar[Mapping[str, int]] = {
        "vocabulary_size": 1 << 24,
        "type_vocabulary_size": 1 << 16,
        "hidden_size": 1 << 16,
        "embedding_size": 1 << 16,
        "layers": 1 << 10,
        "attention_heads": 1 << 10,
    }

    vocabulary_size: int
    hidden_size: int
    layers: int
    attention_heads: int
    layer_norm_eps: float  # of heads, too
    embedding_size: int  # of word embeddings, and of what a head over the vocabulary multiplies with them
    type_vocabulary_size: int = 0  # 0 for no segment embeddings
    has_pooler: bool = False

    @property
    def max_tokens(self) -> int:
        """The longest text that the positions allow."""
        raise NotImplementedError


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
    outputs: int  # logits a row; the vocabulary's size for "vocabulary"
    kind: str = "linear"  # one of heads.KINDS
    tied: bool = True  # of "vocabulary": its matrix is that of the word embeddings
    reads_pooler: bool = False  # not the first token's state but what the pooler makes of it
    has_dense: bool = False  # a layer before the last one
    activation: str = ""  # after the dense layer; "" for none


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
