"""The values that the SDK gives back."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bertstream.client._errors import RpcError
from bertstream.client._usage import Timings, Usage

FloatArray: TypeAlias = NDArray[np.floating[Any]]
"""float32, or float16 where `wire_type="float16"` was asked for."""

PoolingMode: TypeAlias = Literal[
    "cls", "mean", "max", "mean_sqrt_len", "weighted_mean", "last_token", "pooler", "checkpoint"
]
LayerCombination: TypeAlias = Literal["mean", "sum", "concatenate"]
WireType: TypeAlias = Literal["float32", "float16", "bfloat16", "int8"]
ComputeType: TypeAlias = Literal["float32", "float16", "bfloat16", "int8", "fp8"]
Output: TypeAlias = Literal[
    "pooled", "pooler_output", "last_hidden_state", "hidden_states", "attentions", "pooled_spans"
]
LayerKind: TypeAlias = Literal["hidden_states", "attentions"]
SpanUnit: TypeAlias = Literal["characters", "words", "tokens"]
Truncation: TypeAlias = Literal["refuse", "longest_first", "only_first", "only_second"]
TruncationSide: TypeAlias = Literal["right", "left"]
Priority: TypeAlias = Literal["interactive", "bulk"]
OffsetUnit: TypeAlias = Literal["code_points", "utf16_units", "utf8_bytes"]
TokenColumn: TypeAlias = Literal["tokens", "offsets", "token_type_ids", "special_tokens_mask", "word_ids"]


class Health(enum.Enum):
    """What grpc.health.v1 says; true in a condition only where it is SERVING."""

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
    """Only the first so many dimensions are kept; 0 keeps all."""


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
    """What one call may ask for."""

    max_texts: int
    max_request_bytes: int
    max_response_bytes: int
    stream_window: StreamWindow


@dataclass(frozen=True, slots=True)
class PrecisionTest:
    """The worst that a self-test at load has found, over a few made-up texts, against the same model in float32."""

    max_abs_difference: float
    """The largest difference of a number of a last_hidden_state."""
    min_cosine: float
    """The smallest cosine of a token's last_hidden_state."""


@dataclass(frozen=True, slots=True)
class GenerationDescription:
    """What a model that generates is like."""

    vocabulary_size: int
    """Valid ids of generated tokens are 0 to vocabulary_size - 1; an encoder-decoder's decoder may have its own."""
    max_tokens: int
    """The most tokens that a generated sequence may have; of a decoder, its prompt included."""
    eos_token_ids: tuple[int, ...]
    """Tokens at which a sequence ends, by the checkpoint."""
    cache_tokens: int
    """Tokens of all sequences that a worker can have under way: inputs, and what they may grow to."""


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
    """Layers, the embeddings not counted."""
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
    """The type that it computes in, such as "float32"; "int8" and "fp8" are that of its matrix products alone."""
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
    """Things of the checkpoint that are not served as its authors may have meant, in plain words."""
    precision_test: PrecisionTest | None = None
    """How far its numbers are from those of float32; None where the server made no such test."""
    labels: tuple[str, ...] = ()
    """Those of its sequence_classification or token_classification by their number."""
    generation: GenerationDescription | None = None
    """How it generates; None where it does not."""
    pooling_steps: tuple[str, ...] = ()
    """What the pooling "checkpoint" does after the last layer, in plain words; empty where it is another mode."""

    @property
    def vector_size(self) -> int:
        """The length of a pooled vector, where a request does not say how to pool."""
        return self.default_pooling.dimensions or self.hidden_size


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """The tokens of one text, or of one window of it. Columns that were not asked for, or that do not exist for this
    kind of text (offsets of token ids), are empty. May itself be given as a text: its ids and type ids are sent.
    """

    token_ids: NDArray[np.int32]
    """[n]"""
    tokens: list[str]
    """The vocabulary's spelling of each token."""
    offsets: NDArray[np.int32]
    """[n, 2]: where each token starts and ends (exclusive) in its text as sent; 0, 0 for special tokens."""
    token_type_ids: NDArray[np.int32]
    """[n]"""
    special_tokens_mask: NDArray[np.bool_]
    """[n]: true for tokens that the tokenizer added."""
    word_ids: NDArray[np.int32]
    """[n]: the word that each token belongs to; -1 for special tokens."""
    sequence_ids: NDArray[np.int32]
    """[n]: which text of a pair each token is from, 0 or 1; -1 for special tokens."""
    text_index: int
    """The index of its text in the list that was given (in a stream: in its batch)."""

    def __len__(self) -> int:
        return len(self.token_ids)


def _no_integers() -> NDArray[np.int32]:
    return np.empty(0, np.int32)


def _no_offsets() -> NDArray[np.int32]:
    return np.empty((0, 2), np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class Outputs:
    """The outputs of one text. Those that were not asked for are None, or an empty dict. The arrays may be read-only
    views; rows are the text's own tokens, without padding.
    """

    token_count: int
    """Tokens of the text, special tokens included."""
    token_ids: NDArray[np.int32] = field(default_factory=_no_integers)
    """[token_count]"""
    tokens: list[str] = field(default_factory=list)
    """[token_count]: the vocabulary's spelling of each token."""
    offsets: NDArray[np.int32] = field(default_factory=_no_offsets)
    """[token_count, 2]: where each token starts and ends (exclusive) in its text as sent; 0, 0 for special tokens. Of a
    text that was given as token ids [0, 2]."""
    pooled: FloatArray | None = None
    """[dimensions]"""
    pooler_output: FloatArray | None = None
    """[hidden]"""
    pooled_spans: FloatArray | None = None
    """[spans, dimensions]"""
    last_hidden_state: FloatArray | None = None
    """[token_count, hidden]"""
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
class EncodedBatch:
    """Vectors of some texts of a stream."""

    ids: NDArray[np.int64]
    """[k]: the caller's ids, or the texts' positions in the input."""
    vectors: FloatArray
    """[k, dimensions]: row i belongs to ids[i]; NaN where the item failed."""
    errors: list[ItemError]
    """The items that failed (with `on_error="collect"`)."""
    usage: Usage
    """What the messages cost that the rows came in. One whose rows went to several batches counts with the batch that
    has its first row, so that the batches of a stream add up to what its answers cost. Items that failed cost none."""
    timings: Timings
    """Of the same messages, and of those that count elsewhere; of each timing the slowest."""

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
    """One a text, or one a window; `ids[tokens[i].text_index]` is its text's id. None for items that failed."""
    errors: list[ItemError]
    """The items that failed (with `on_error="collect"`)."""
    usage: Usage
    """As in EncodedBatch."""
    timings: Timings
    """As in EncodedBatch."""

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One layer of one text, whole."""

    text_index: int
    """The index of its text in the list that was given."""
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
    """One a text: the tokens, and of the outputs those that are one vector a text or a span (pooled, pooler_output,
    pooled_spans), where they were asked for. The layers have come before."""
    usage: Usage
    timings: Timings


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a stream is."""

    texts: int
    """Texts answered, failed ones included."""
    failed: int
    """Texts that failed."""
    tokens: int
    """Tokens worked on."""
    seconds: float
    """Since the start."""
    total: int | None
    """Texts in all, where the input has a length."""
    finished: bool
    """True for the last report."""

    @property
    def texts_per_second(self) -> float:
        """Texts a second, over the whole time."""
        return self.texts / self.seconds if self.seconds else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Tokens a second, over the whole time."""
        return self.tokens / self.seconds if self.seconds else 0.0
