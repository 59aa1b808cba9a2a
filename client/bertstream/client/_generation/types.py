"""The values that the methods of generation return."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from bertstream.client._types import ItemError
from bertstream.client._usage import Timings, Usage

R = TypeVar("R")

FinishReason: TypeAlias = Literal["end_of_sequence", "stop_string", "length"]
EarlyStopping: TypeAlias = bool | Literal["never"]


@dataclass(frozen=True, slots=True)
class Generation:
    """One answer to one prompt. `str()` gives `text`."""

    text: str
    """What was generated, without the prompt."""
    token_ids: tuple[int, ...]
    """Its tokens, without those of the prompt, but with the end-of-sequence token."""
    finish_reason: FinishReason
    """Why it ended: end_of_sequence, stop_string, or length (max_new_tokens, or no more room in the model)."""
    score: float
    """The sum of its tokens' log-probabilities; after a beam search its score with length_penalty."""
    token_scores: tuple[float, ...] | None
    """The logarithm of each token's probability with `token_scores=True`, else None."""
    input_tokens: int
    """The number of tokens of the prompt, including special ones."""

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class GenerationPiece:
    """A piece of an answer. `str()` gives `text`. All pieces of an answer, concatenated, are the answer."""

    text: str = ""
    """Text that is final: it never ends within a character, and what may become a stop string is held back."""
    token_ids: tuple[int, ...] = ()
    """The tokens since the answer's last piece; they may come before their text does."""
    sequence_index: int = 0
    """Which of several answers the piece belongs to."""
    token_scores: tuple[float, ...] | None = None
    """The logarithm of each token's probability with `token_scores=True`, else None."""

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class GenerationDone(GenerationPiece):
    """The last item of `stream_generate`: an empty piece that has all complete answers."""

    sequence_index: int = -1
    outputs: list[Generation] = field(kw_only=True)
    """The answers, by sequence_index."""
    usage: Usage = field(kw_only=True)
    timings: Timings = field(kw_only=True)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, eq=False)
class GeneratedBatch(Generic[R]):
    """Answers to some prompts of a stream."""

    ids: NDArray[np.int64]
    """[k]: the caller's ids, or the prompts' positions in the input; without the items that failed."""
    results: list[R]
    """[k]: results[i] belongs to ids[i]: a Generation, or a list of them with `num_return_sequences` above 1."""
    errors: list[ItemError]
    """The items that failed (with `on_error="collect"`)."""
    usage: Usage
    """As in EncodedBatch."""
    timings: Timings
    """As in EncodedBatch."""

    def __len__(self) -> int:
        return len(self.ids)
