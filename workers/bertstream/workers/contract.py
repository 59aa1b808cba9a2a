"""All that passes between the server and a worker process."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

PoolingMode = Literal["cls", "mean", "max", "mean_sqrt_len", "weighted_mean", "last_token", "pooler", "checkpoint"]
LayerCombination = Literal["mean", "sum", "concatenate"]
WireType = Literal["float32", "float16", "bfloat16", "int8"]
Output = (
    Literal["pooled", "pooler_output", "last_hidden_state", "hidden_states", "attentions", "pooled_spans"]
    | Literal["mask_candidates", "token_log_probabilities", "label_scores", "token_label_scores", "answer_spans"]
)
HeadName = (
    Literal["fill_mask", "next_sentence", "sequence_classification"]
    | Literal["token_classification", "question_answering", "multiple_choice"]
)
# Those that a checkpoint's weights alone may not tell apart.
TASKS: tuple[HeadName, ...] = (
    *("sequence_classification", "token_classification", "question_answering", "multiple_choice"),
)
ScoreFunction = Literal["softmax", "sigmoid", "none"]
EarlyStopping = Literal["heuristic", "first", "never"]
FinishReason = Literal["end_of_sequence", "length"]
FailureReason = Literal["out_of_memory", "expired", "queue_full", "overloaded", "internal"]

INTERACTIVE, BULK = 0, 1


@dataclass(frozen=True, slots=True)
class Pooling:
    """How token states become one vector a text; `layers` count from 0 (the embeddings) and are never empty.

    "checkpoint" is all that the checkpoint's sentence-transformers modules do, of the last layer alone.
    """

    mode: PoolingMode
    layers: tuple[int, ...]
    combination: LayerCombination = "mean"
    normalize: bool = False
    dimensions: int = 0  # 0 keeps all
    skipped: int = 0  # tokens at the start of each text that are left out, as a prompt's may be; not of "pooled_spans"


@dataclass(frozen=True, slots=True)
class HeadOptions:
    """Which task head to run, and what of its numbers is wanted, always as float32."""

    name: HeadName
    function: ScoreFunction = "softmax"  # of "label_scores" and "token_label_scores"
    top_k: int = 0  # of "mask_candidates", "label_scores" and "answer_spans": the best so many; 0: all labels
    targets: tuple[int, ...] = ()  # of "mask_candidates": no ids but these
    max_answer_tokens: int = 0  # of "answer_spans"


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """What to compute for every text of a batch; what an output needs is set where it is among the outputs."""

    outputs: tuple[Output, ...]
    pooling: Pooling | None = None  # of "pooled" and "pooled_spans"
    wire_type: WireType = "float32"
    hidden_layers: tuple[int, ...] = ()  # of "hidden_states", ascending, 0 the embeddings
    attention_layers: tuple[int, ...] = ()  # of "attentions", ascending, 1 the first layer
    attention_heads: tuple[int, ...] = ()  # of "attentions", in the order wanted, 0 the first head
    head: HeadOptions | None = None  # of "mask_candidates" and all that follow it among the outputs


@dataclass(frozen=True, slots=True)
class Spans:
    """Ranges of tokens, for n texts end to end: S in all.

    Those to pool for "pooled_spans"; single tokens, masked already, for "mask_candidates" and
    "token_log_probabilities"; where an answer may lie, one span a text, for "answer_spans".
    """

    counts: NDArray[np.int32]  # [n]
    starts: NDArray[np.int32]  # [S], the first token, counted within the text
    lengths: NDArray[np.int32]  # [S], tokens
    ids: NDArray[np.int32] | None = None  # [S]: whose "token_log_probabilities" are wanted


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts end to end. T tokens in all, n texts."""

    ids: NDArray[np.int32]  # [T]
    lengths: NDArray[np.int32]  # [n], each at least 1
    type_ids: NDArray[np.int32] | None = None  # [T]; None means all zero
    spans: Spans | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """One entry of a worker's queue. `alone` keeps it out of batches with others, as it may be what kills workers."""

    id: int
    batch: Batch
    output_options: OutputOptions
    priority: int = INTERACTIVE
    deadline: float = math.inf  # time.monotonic(), which all processes of a machine share
    alone: bool = False
    # A computation in steps, each of which wants higher layers: its number on this connection, or 0. The worker keeps
    # the states that a step has reached, unless it is the final one.
    session: int = 0
    final: bool = True
    caller: str = ""  # whose share of the worker this is: a key's name, or a peer's address
    weight: float = 1.0  # of that share, above 0, beside those of other callers of the same priority


@dataclass(frozen=True, slots=True)
class Cancel:
    """Nobody waits for these works any more, and these sessions will have no more steps."""

    ids: tuple[int, ...]
    sessions: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Hello:
    """The worker's first message on each connection."""

    worker: str
    pid: int
    connection: int  # this connection's number, by which `running` names its work
    batch_tokens: int  # no Work may have more
    running: str  # path of the file that says which work is being computed; it outlives the worker
    # No Generate may have more, the input and max_new_tokens for each answer or beam together; 0: none at all.
    cache_tokens: int = 0
    wait_seconds: float = 0.0  # as in Result


@dataclass(frozen=True, slots=True)
class Result:
    """The outputs by name; bfloat16 comes as int16, and int8 has "NAME.scales" beside it, float32, one a row.

    "pooled", "pooler_output" [n, d]; "pooled_spans" [S, d]; "last_hidden_state", "hidden_states.3" [T, H];
    "attentions.3" one dimension, for each text [heads, tokens, tokens].
    "mask_candidates.ids", ".scores" [S, k]; "token_log_probabilities" [S]; "token_label_scores" [T, labels];
    "label_scores" [n, labels], or with top_k "label_scores.ids", ".scores" [n, k], best first, then by id;
    "answer_spans.starts", ".ends" (the last token, within the text), ".scores" [n, k], best first, with starts -1 where
    there are fewer; "answer_spans.none" [n], the score of "no answer".

    `wait_seconds` is a hint: for how long a small interactive Work of a caller of whom nothing waits would have to wait
    if it came now, 0 at an idle worker.
    """

    id: int
    tensors: dict[str, NDArray[np.generic]]
    queue_seconds: float
    compute_seconds: float
    wait_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Failure:
    """This work failed; the worker goes on. "overloaded" is what was not computed as it would have been late."""

    id: int
    reason: FailureReason
    message: str
    retry_seconds: float = 0.0  # of "overloaded": in how long it would fit, as far as can be told
    wait_seconds: float = 0.0  # as in Result; where a Generate failed, as in Completed


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """How to generate, as in transformers' GenerationConfig; every field is set and valid."""

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
    seed: int = 0  # of this input; sequence i of it draws from a generator of its own
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    bad_words: tuple[tuple[int, ...], ...] = ()
    eos_token_ids: tuple[int, ...] = ()
    stream: bool = False  # tokens are wanted as they come, in Generated


@dataclass(frozen=True, slots=True)
class Generate:
    """One input to generate for: a decoder's prompt, or an encoder's text. Cancelled and failed as Work is."""

    id: int  # on its connection, from the same numbers as those of Work
    ids: NDArray[np.int32]  # [T], at least one
    options: GenerationOptions
    type_ids: NDArray[np.int32] | None = None  # [T]; None means all zero
    priority: int = INTERACTIVE
    deadline: float = math.inf  # time.monotonic()
    alone: bool = False  # keeps it out of steps with others, as it may be what kills workers
    caller: str = ""  # as in Work
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Generated:
    """New tokens of one step, of every streaming Generate of this connection that got one."""

    works: NDArray[np.int64]  # [m] ids of Generate
    sequences: NDArray[np.int32]  # [m] which of its answers, from 0
    tokens: NDArray[np.int32]  # [m]
    scores: NDArray[np.float32]  # [m] natural logarithm of the token's probability


@dataclass(frozen=True, slots=True)
class Completed:
    """All answers to one Generate: s sequences, G tokens end to end, with the end-of-sequence tokens.

    Those of a beam search best first, others in the order of their numbers.
    """

    id: int
    reasons: tuple[FinishReason, ...]  # [s]
    lengths: NDArray[np.int32]  # [s]
    tokens: NDArray[np.int32]  # [G]
    token_scores: NDArray[np.float32]  # [G] natural logarithm of each token's probability
    scores: NDArray[np.float32]  # [s] the sum of the sequence's token scores; of a beam search its own score
    queue_seconds: float
    compute_seconds: float  # from the first computation for it to the last
    wait_seconds: float = 0.0  # a hint: for how long a small interactive Generate would have to wait until it begins
