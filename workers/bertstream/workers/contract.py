"""Define all that passes between the server and a worker process."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

PoolingMode = Literal["cls", "mean", "max", "mean_sqrt_len", "weighted_mean", "last_token", "pooler", "checkpoint"]
LayerCombination = Literal["mean", "sum", "concatenate"]
WireType = Literal["float32", "float16", "bfloat16", "int8"]
Output = (
    Literal["pooled", "pooler_output", "last_hidden_state", "hidden_states", "attentions", "pooled_spans"]
    | Literal["mask_candidates", "token_log_probabilities", "label_scores", "token_label_scores", "answer_spans"]
    | Literal["sparse_weights", "token_vectors", "max_similarities", "entity_spans"]
)
HeadName = (
    Literal["fill_mask", "next_sentence", "sequence_classification"]
    | Literal["token_classification", "question_answering", "multiple_choice"]
    | Literal["multi_vector", "lexical_weights", "static_weights", "zero_shot_entities"]
)
# The heads that a checkpoint's weights alone may not tell apart.
TASKS: tuple[HeadName, ...] = (
    *("sequence_classification", "token_classification", "question_answering", "multiple_choice"),
)
# What a checkpoint may have adapters for, one of which is then a part of its weights (jina-embeddings-v3).
ADAPTER_TASKS = ("retrieval.query", "retrieval.passage", "separation", "classification", "text-matching")
ScoreFunction = Literal["softmax", "sigmoid", "none"]
SparseStrategy = Literal["max", "sum"]
SparseActivation = Literal["relu", "log1p_relu"]
Similarity = Literal["maxsim", "meanmaxsim"]
SPARSE_STRATEGIES: tuple[SparseStrategy, ...] = get_args(SparseStrategy)
SPARSE_ACTIVATIONS: tuple[SparseActivation, ...] = get_args(SparseActivation)
EarlyStopping = Literal["heuristic", "first", "never"]
FinishReason = Literal["end_of_sequence", "length"]
FailureReason = Literal["out_of_memory", "expired", "queue_full", "overloaded", "internal"]

INTERACTIVE, BULK = 0, 1


@dataclass(frozen=True, slots=True)
class Pooling:
    """Say how token states become one vector a text.

    `layers` count from 0 (the embeddings) and are never empty. "checkpoint" is all that the checkpoint's
    sentence-transformers modules do, and reads the last layer alone.
    """

    mode: PoolingMode
    layers: tuple[int, ...]
    combination: LayerCombination = "mean"
    normalize: bool = False
    dimensions: int = 0  # 0 keeps all
    skipped: int = 0  # first tokens of each text to leave out, such as a prompt's; not for "pooled_spans"


@dataclass(frozen=True, slots=True)
class SparsePooling:
    """Say how a text's logits of the vocabulary become one weight an id, as sentence-transformers' SpladePooling does.

    A token's logit x counts as log(1 + max(x, 0)), with "log1p_relu" as the log1p of that.
    """

    strategy: SparseStrategy = "max"  # over the text's tokens, special ones included
    activation: SparseActivation = "relu"


@dataclass(frozen=True, slots=True)
class HeadOptions:
    """Say which task head to run, and which of its numbers are wanted, always as float32."""

    name: HeadName
    function: ScoreFunction = "softmax"  # for "label_scores" and "token_label_scores"
    top_k: int = 0  # only the best k, of all outputs that are not for tokens; 0: all
    targets: tuple[int, ...] = ()  # for "mask_candidates": only these ids
    max_answer_tokens: int = 0  # for "answer_spans"
    sparse: SparsePooling = SparsePooling()  # for "sparse_weights" of "fill_mask"
    skipped: tuple[int, ...] = ()  # for "sparse_weights" of "lexical_weights": ids that have no weight
    similarity: Similarity = "maxsim"  # for "max_similarities"
    labels: int = 0  # for "entity_spans": how many of each text's spans are labels, at least one
    threshold: float = 0.0  # for "entity_spans": what a span's probability must be above


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """Say what to compute for every text of a batch.

    What an output needs is set where that output is asked for.
    """

    outputs: tuple[Output, ...]
    pooling: Pooling | None = None  # for "pooled" and "pooled_spans"
    wire_type: WireType = "float32"
    hidden_layers: tuple[int, ...] = ()  # for "hidden_states", ascending; 0 is the embeddings
    attention_layers: tuple[int, ...] = ()  # for "attentions", ascending; 1 is the first layer
    attention_heads: tuple[int, ...] = ()  # for "attentions", in the order wanted; 0 is the first head
    head: HeadOptions | None = None  # for "mask_candidates" and all outputs that follow it in the list


@dataclass(frozen=True, slots=True)
class Spans:
    """Hold ranges of tokens, for n texts end to end: S in all.

    For "pooled_spans", the ranges to pool. For "token_vectors" and "max_similarities", single tokens, those that have a
    vector. For "mask_candidates" and "token_log_probabilities", single tokens that are
    masked already. For "answer_spans", one range a text, in which an answer may lie. For "entity_spans", single tokens:
    those of the labels, then the first token of each word.
    """

    counts: NDArray[np.int32]  # [n]
    starts: NDArray[np.int32]  # [S], the first token, counted within the text
    lengths: NDArray[np.int32]  # [S], tokens
    ids: NDArray[np.int32] | None = None  # [S] the ids whose "token_log_probabilities" are wanted


@dataclass(frozen=True, slots=True)
class Batch:
    """Hold n texts end to end, T tokens in all."""

    ids: NDArray[np.int32]  # [T]
    lengths: NDArray[np.int32]  # [n], each at least 1
    type_ids: NDArray[np.int32] | None = None  # [T]; None means all zero
    spans: Spans | None = None
    # [n] how many of each text's first tokens its tokens attend to, those behind them included; None means all.
    attended: NDArray[np.int32] | None = None
    # [n] for "max_similarities": how many of each text's first tokens are a query, and the others a document. The two
    # are computed as texts of their own, and `attended` is the query's.
    queries: NDArray[np.int32] | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """Describe one entry of a worker's queue.

    `alone` keeps it out of batches with others, since it may be what kills workers.
    """

    id: int
    batch: Batch
    output_options: OutputOptions
    priority: int = INTERACTIVE
    deadline: float = math.inf  # time.monotonic(), which all processes of a machine share
    alone: bool = False
    # The number, on this connection, of a computation in steps that each want higher layers; 0 for none. The worker
    # keeps the states that a step has reached, unless it is the final one.
    session: int = 0
    final: bool = True
    caller: str = ""  # who shares the worker: the name of a key, or a peer's address
    weight: float = 1.0  # of the caller's share, above 0, relative to other callers of the same priority
    admitted: bool = False  # by a worker that was lost since: no other refuses it for time


@dataclass(frozen=True, slots=True)
class Cancel:
    """Take back works that nobody waits for any more, and end sessions."""

    ids: tuple[int, ...]
    sessions: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Hello:
    """Introduce the worker, in its first message on each connection."""

    worker: str
    pid: int
    connection: int  # this connection's number, which `running` uses in its keys
    batch_tokens: int  # the most that a Work may have
    interactive_tokens: int  # the most that one should have, unless it is bulk work, so that others do not wait long
    running: str  # path of the file that says which work is being computed; it outlives the worker
    # The most that a Generate may have, its input and max_new_tokens added up for each answer or beam; 0: none at all.
    cache_tokens: int = 0
    wait_seconds: float = 0.0  # as in Result
    batch_seconds: float = 0.0  # as in Result


@dataclass(frozen=True, slots=True)
class Result:
    """Hold the outputs by name.

    bfloat16 comes as int16, and int8 has "NAME.scales" beside it, float32, one a row.

    "pooled", "pooler_output" [n, d]; "pooled_spans" [S, d]; "last_hidden_state", "hidden_states.3" [T, H];
    "attentions.3" one dimension, for each text [heads, tokens, tokens].
    "mask_candidates.ids", ".scores" [S, k]; "token_log_probabilities" [S]; "token_label_scores" [T, labels];
    "label_scores" [n, labels], or with top_k "label_scores.ids", ".scores" [n, k], best first, then by id;
    "answer_spans.starts", ".ends" (the last token, within the text), ".scores" [n, k], best first, with starts -1 where
    there are fewer; "answer_spans.none" [n], the score of "no answer".
    "token_vectors" [S, d]; "max_similarities" [n].
    "sparse_weights.counts" [n], "sparse_weights.ids" int32, ".weights" [S], for all texts end to end, by id.
    "entity_spans.counts" [n], "entity_spans.starts", ".ends" (the last word), ".labels" int32, ".scores" [S], by start,
    end and label; starts and ends number the text's words.

    `wait_seconds` is a hint: how long a small interactive Work would have to wait if it came now, from a caller with no
    other work waiting. It is 0 at an idle worker. `batch_seconds` is how long a full batch of interactive work takes
    there, by those that the worker has lately computed.
    """

    id: int
    tensors: dict[str, NDArray[np.generic]]
    queue_seconds: float
    compute_seconds: float
    wait_seconds: float = 0.0
    batch_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Failure:
    """Report that this work failed; the worker goes on.

    "overloaded" means that it was not computed because its answer would have been late.
    """

    id: int
    reason: FailureReason
    message: str
    retry_seconds: float = 0.0  # for "overloaded": when it would fit, as far as can be told
    wait_seconds: float = 0.0  # as in Result; where a Generate failed, as in Completed


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """Say how to generate, as transformers' GenerationConfig does; every field is set and valid."""

    max_new_tokens: int
    min_new_tokens: int = 0
    num_beams: int = 1
    num_return_sequences: int = 1
    length_penalty: float = 1.0
    early_stopping: EarlyStopping = "heuristic"
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0  # 0: all
    top_p: float = 1.0
    seed: int = 0  # for this input; each of its sequences has a random generator of its own
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    bad_words: tuple[tuple[int, ...], ...] = ()
    eos_token_ids: tuple[int, ...] = ()
    stream: bool = False  # send tokens as they come, in Generated


@dataclass(frozen=True, slots=True)
class Generate:
    """Hold one input to generate for: a decoder's prompt, or an encoder's text.

    It is cancelled and fails as Work does.
    """

    id: int  # on its connection, unique among those of Work too
    ids: NDArray[np.int32]  # [T], at least one
    options: GenerationOptions
    type_ids: NDArray[np.int32] | None = None  # [T]; None means all zero
    priority: int = INTERACTIVE
    deadline: float = math.inf  # time.monotonic()
    alone: bool = False  # keeps it out of steps with others, since it may be what kills workers
    caller: str = ""  # as in Work
    weight: float = 1.0
    admitted: bool = False


@dataclass(frozen=True, slots=True)
class Generated:
    """Hold the new tokens of one step, for every streaming Generate of this connection that got one."""

    works: NDArray[np.int64]  # [m] ids of Generate
    sequences: NDArray[np.int32]  # [m] which of its answers, from 0
    tokens: NDArray[np.int32]  # [m]
    scores: NDArray[np.float32]  # [m] natural logarithm of the token's probability


@dataclass(frozen=True, slots=True)
class Completed:
    """Hold all answers to one Generate: s sequences, G tokens end to end, with the end-of-sequence tokens.

    A beam search gives the best first, other ways give them by number.
    """

    id: int
    reasons: tuple[FinishReason, ...]  # [s]
    lengths: NDArray[np.int32]  # [s]
    tokens: NDArray[np.int32]  # [G]
    token_scores: NDArray[np.float32]  # [G] natural logarithm of each token's probability
    scores: NDArray[np.float32]  # [s] the sum of the sequence's token scores; for a beam search, its own score
    queue_seconds: float
    compute_seconds: float  # from the first computation for it to the last
    wait_seconds: float = 0.0  # a hint: how long a small interactive Generate would have to wait before it begins
