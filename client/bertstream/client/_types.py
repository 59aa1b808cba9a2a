"""The values that the SDK returns."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bertstream.client._errors import RpcError
from bertstream.client._shown import ShownLayer, ShownOutputs, ShownTokens, ShownVectors
from bertstream.client._sparse import SparseVector
from bertstream.client._usage import Timings, Usage

FloatArray: TypeAlias = NDArray[np.floating[Any]]
"""float32, or float16 if `wire_type="float16"` was asked for."""

Numbers: TypeAlias = int | np.integer[Any] | Collection[int] | NDArray[np.integer[Any]]
"""A whole number or several: a list, a range, a set, an array, a tensor or a column."""

PoolingMode: TypeAlias = Literal[
    "cls", "mean", "max", "mean_sqrt_len", "weighted_mean", "last_token", "pooler", "checkpoint"
]
LayerCombination: TypeAlias = Literal["mean", "sum", "concatenate"]
WireType: TypeAlias = Literal["float32", "float16", "bfloat16", "int8"]
ComputeType: TypeAlias = Literal["float32", "float16", "bfloat16", "int8", "fp8"]
Output: TypeAlias = Literal[
    "pooled",
    "pooler_output",
    "last_hidden_state",
    "hidden_states",
    "attentions",
    "pooled_spans",
    "token_vectors",
    "sparse_weights",
]
LayerKind: TypeAlias = Literal["hidden_states", "attentions"]
SpanUnit: TypeAlias = Literal["characters", "words", "tokens"]
TextKind: TypeAlias = Literal["query", "document"]
LongTexts: TypeAlias = Literal["cut", "windows"]
WindowPooling: TypeAlias = Literal["mean", "max", "weighted"]
Truncation: TypeAlias = Literal["refuse", "longest_first", "only_first", "only_second"]
TruncationSide: TypeAlias = Literal["right", "left"]
Priority: TypeAlias = Literal["interactive", "bulk"]
OffsetUnit: TypeAlias = Literal["code_points", "utf16_units", "utf8_bytes"]
TokenColumn: TypeAlias = Literal["tokens", "offsets", "token_type_ids", "special_tokens_mask", "word_ids"]


class Health(enum.Enum):
    """The status of grpc.health.v1. Only SERVING is true in a condition."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3

    def __bool__(self) -> bool:
        return self is Health.SERVING


@dataclass(frozen=True, slots=True)
class Pooling:
    """How token states become one vector."""

    mode: str
    layers: tuple[int, ...]
    layer_combination: str
    normalize: bool
    dimensions: int
    """How many of the first dimensions are kept; 0 keeps all."""


@dataclass(frozen=True, slots=True)
class SpecialToken:
    """A special token of a vocabulary."""

    token: str
    id: int


@dataclass(frozen=True, slots=True)
class StreamWindow:
    """How much of one stream may be under way."""

    max_items: int
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one call."""

    max_texts: int
    max_request_bytes: int
    max_response_bytes: int
    stream_window: StreamWindow


@dataclass(frozen=True, slots=True)
class PrecisionTest:
    """The largest deviations from the same model in float32 that a self-test at load found over a few made-up texts."""

    max_abs_difference: float
    """The largest absolute difference of a number of a last_hidden_state."""
    min_cosine: float
    """The smallest cosine between the two vectors of a token in last_hidden_state."""


@dataclass(frozen=True, slots=True)
class GenerationDescription:
    """The properties of a model that generates text."""

    vocabulary_size: int
    """Valid ids of generated tokens are 0 to vocabulary_size - 1; an encoder-decoder's decoder may have its own."""
    max_tokens: int
    """The most tokens that a generated sequence may have; for a decoder this includes the prompt."""
    eos_token_ids: tuple[int, ...]
    """Tokens at which a sequence ends, according to the checkpoint."""
    cache_tokens: int
    """How many tokens the sequences of a worker may have together: their inputs, and all that may be generated."""


@dataclass(frozen=True, slots=True)
class MultiVector:
    """The properties of a model that gives a vector of each token (ColBERT)."""

    dimensions: int
    """The length of a token's vector."""
    similarity: str
    """How `rerank` makes a document's score: "maxsim", a sum over the query's tokens, or "meanmaxsim", their mean."""
    query_length: int
    """Where queries are cut, special tokens included."""
    document_length: int
    """Where documents are cut."""
    expanded_length: int
    """The tokens that a query has at least; 0 where queries are not expanded."""


@dataclass(frozen=True, slots=True)
class Model:
    """A served model."""

    name: str
    """Its name in requests."""
    revision: str
    """The hash of its checkpoint's content and of how it was compiled, in hexadecimal."""
    family: str
    """`model_type` in its config.json, such as "bert"."""
    architecture: str
    """The first of `architectures` in its config.json, such as "BertModel"."""
    layers: int
    """The number of layers, without the embeddings."""
    hidden_size: int
    attention_heads: int
    vocabulary_size: int
    type_vocabulary_size: int
    max_tokens: int
    """The most tokens a text may have, special tokens included."""
    default_max_length: int
    """The length that texts are cut to unless a request says otherwise, special tokens included."""
    has_pooler: bool
    compute_type: str
    """The type that it computes in, such as "float32"; "int8" and "fp8" apply to its matrix products only."""
    device: str
    """ "cpu" or "cuda"."""
    workers: int
    live_workers: int
    native_operators: bool
    default_pooling: Pooling
    prompts: Mapping[str, str]
    default_prompt_name: str
    special_tokens: Mapping[str, SpecialToken]
    """By role: cls, sep, pad, mask, unk, bos, eos."""
    outputs: tuple[str, ...]
    heads: tuple[str, ...]
    limits: Limits
    warnings: tuple[str, ...]
    """What of the checkpoint is not served as its authors may have meant, in plain words."""
    precision_test: PrecisionTest | None = None
    """How far its numbers are from those of float32; None if the server made no such test."""
    labels: tuple[str, ...] = ()
    """The labels of its head for sequence_classification or token_classification, by their number."""
    generation: GenerationDescription | None = None
    """How it generates text; None if it does not."""
    pooling_steps: tuple[str, ...] = ()
    """What the pooling "checkpoint" does after the last layer, in plain words; empty for another pooling."""
    cpu_instructions: str = ""
    """Instructions that its C++ operators use, such as "avx512+vnni"; empty for none, on CUDA and of older servers."""
    multi_vector: MultiVector | None = None
    """How it makes a vector of each token; None if it does not."""

    @property
    def vector_size(self) -> int:
        """The length of a pooled vector of a request without options of pooling."""
        return self.default_pooling.dimensions or self.hidden_size


@dataclass(frozen=True, slots=True, eq=False)
class Tokens(ShownTokens):
    """The tokens of one text, or of one window of it.

    Columns that were not asked for, or that do not exist for this kind of text (offsets of token ids), are empty.
    Tokens may themselves be given as a text: their ids and type ids are sent.
    """

    token_ids: NDArray[np.int32]
    """[n]"""
    tokens: list[str]
    """The vocabulary's spelling of each token."""
    offsets: NDArray[np.int32]
    """[n, 2]: where each token starts and ends (exclusive) in the text that was sent; 0, 0 for special tokens."""
    token_type_ids: NDArray[np.int32]
    """[n]"""
    special_tokens_mask: NDArray[np.bool_]
    """[n]: true for tokens that the tokenizer added."""
    word_ids: NDArray[np.int32]
    """[n]: the word that each token belongs to; -1 for special tokens."""
    sequence_ids: NDArray[np.int32]
    """[n]: which text of a pair each token is from, 0 or 1; -1 for special tokens."""
    text_index: int
    """The index of its text in the caller's list (in a stream: in its batch)."""

    def __len__(self) -> int:
        return len(self.token_ids)


def _no_integers() -> NDArray[np.int32]:
    return np.empty(0, np.int32)


def _no_offsets() -> NDArray[np.int32]:
    return np.empty((0, 2), np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class Outputs(ShownOutputs):
    """The outputs of one text. Outputs that were not asked for are None, or an empty dict.

    The arrays may be read-only views; their rows are the text's own tokens, without padding.
    """

    token_count: int
    """Tokens of the text, special tokens included."""
    token_ids: NDArray[np.int32] = field(default_factory=_no_integers)
    """[token_count]"""
    tokens: list[str] = field(default_factory=list)
    """[token_count]: the vocabulary's spelling of each token."""
    offsets: NDArray[np.int32] = field(default_factory=_no_offsets)
    """[token_count, 2]: where each token starts and ends (exclusive) in the text that was sent; 0, 0 for special
    tokens. [0, 2] for a text that was given as token ids."""
    pooled: FloatArray | None = None
    """[dimensions]"""
    pooler_output: FloatArray | None = None
    """[hidden]"""
    pooled_spans: FloatArray | None = None
    """[spans, dimensions]"""
    last_hidden_state: FloatArray | None = None
    """[token_count, hidden]"""
    token_vectors: FloatArray | None = None
    """[tokens that count, dimensions]; an expanded query has more of them than `tokens`."""
    sparse_weights: SparseVector | None = None
    hidden_states: dict[int, FloatArray] = field(default_factory=dict)
    """By layer, from the lowest to the highest; 0 is the embeddings' output. Each [token_count, hidden]."""
    attentions: dict[int, FloatArray] = field(default_factory=dict)
    """By layer, from the lowest to the highest; 1 is the first. Each [len(heads), token_count, token_count]: for each
    head and each token that attends, the weights of the tokens that it attends to, which add up to 1."""
    heads: tuple[int, ...] = ()
    """Which heads the first axis of `attentions` stands for."""


@dataclass(frozen=True, slots=True)
class ItemError:
    """An item of a stream that failed while the stream went on."""

    id: int
    error: RpcError


@dataclass(frozen=True, slots=True, eq=False)
class EncodedBatch(ShownVectors):
    """Vectors of some texts of a stream."""

    ids: NDArray[np.int64]
    """[k]: the caller's ids, or the texts' positions in the input."""
    vectors: FloatArray
    """[k, dimensions]: row i belongs to ids[i]; NaN where the item failed."""
    errors: list[ItemError]
    """The items that failed (with `on_error="collect"`)."""
    usage: Usage
    """The cost of the messages in which the rows came. A message whose rows went to several batches counts with the
    batch of its first row, so that the batches of a stream add up to its total cost. Failed items cost nothing."""
    timings: Timings
    """The slowest of each timing, over all messages that had rows of this batch."""

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True, eq=False)
class OutputsBatch:
    """Outputs of some texts of a stream."""

    ids: NDArray[np.int64]
    """[k]: the caller's ids, or the texts' positions in the input; without the items that failed."""
    outputs: list[Outputs]
    """[k]: outputs[i] belong to ids[i]."""
    errors: list[ItemError]
    """The items that failed (with `on_error="collect"`)."""
    usage: Usage
    """As in EncodedBatch."""
    timings: Timings
    """As in EncodedBatch."""

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True, eq=False)
class TokenizedBatch:
    """Tokens of some texts of a stream."""

    ids: NDArray[np.int64]
    """[k]: the caller's ids, or the texts' positions in the input."""
    tokens: list[Tokens]
    """One per text or window; `ids[tokens[i].text_index]` is its text's id. Failed items have no Tokens."""
    errors: list[ItemError]
    """The items that failed (with `on_error="collect"`)."""
    usage: Usage
    """As in EncodedBatch."""
    timings: Timings
    """As in EncodedBatch."""

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True, eq=False)
class Layer(ShownLayer):
    """One complete layer of one text."""

    text_index: int
    """The index of its text in the caller's list."""
    layer: int
    """0 is the embeddings' output, k the k-th layer."""
    kind: LayerKind
    """hidden_states or attentions."""
    array: FloatArray
    """hidden_states: [tokens, hidden]; attentions: [heads, tokens, tokens]."""
    heads: tuple[int, ...] = ()
    """Which heads the first axis of attentions stands for; () for hidden_states."""
    token_ids: NDArray[np.int32] = field(default_factory=_no_integers)
    """[tokens]"""
    tokens: list[str] = field(default_factory=list)
    """[tokens]: the vocabulary's spelling of each token."""
    offsets: NDArray[np.int32] = field(default_factory=_no_offsets)
    """[tokens, 2], as in Outputs."""


@dataclass(frozen=True, slots=True, eq=False)
class LayersDone:
    """The last event of a stream of layers."""

    outputs: list[Outputs]
    """One per text: its tokens, and those of pooled, pooler_output and pooled_spans that were asked for. The layers
    have come before."""
    usage: Usage
    timings: Timings


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a stream has come."""

    texts: int
    """Texts answered, failed ones included."""
    failed: int
    """Texts that failed."""
    tokens: int
    """Tokens computed."""
    seconds: float
    """Seconds since the start."""
    total: int | None
    """The number of texts of the input, or None if it has no length."""
    finished: bool
    """True for the last report."""

    @property
    def texts_per_second(self) -> float:
        """Texts per second, over the whole time."""
        return self.texts / self.seconds if self.seconds else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Tokens per second, over the whole time."""
        return self.tokens / self.seconds if self.seconds else 0.0
