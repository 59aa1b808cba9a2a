"""The inputs and outputs of a tokenizer, as plain columns without protobuf messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Strategy = Literal["refuse", "longest_first", "only_first", "only_second"]
Side = Literal["right", "left"]
Column = Literal["tokens", "offsets", "special_tokens_mask", "word_ids"]
OffsetUnit = Literal["code_points", "utf16", "utf8"]
Reason = Literal[
    "INVALID_TEXT",  # the tokenizer has no way to spell it
    "INVALID_EMPTY_TEXT",
    "INVALID_TEXT_LENGTH",
    "INVALID_TOKEN_ID",
    "INVALID_TOKEN_TYPE_ID",
    "INVALID_TRUNCATION",
    "INVALID_WINDOWS",
]


@dataclass(frozen=True, slots=True)
class Texts:
    """Whole texts."""

    texts: Sequence[str]

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of texts as two lists of one length (else ValueError)."""

    firsts: Sequence[str]
    seconds: Sequence[str]

    def __post_init__(self) -> None:
        if len(self.firsts) != len(self.seconds):
            raise ValueError(f"{len(self.firsts)} first texts, but {len(self.seconds)} second texts")

    def __len__(self) -> int:
        return len(self.firsts)


@dataclass(frozen=True, slots=True)
class Words:
    """Texts split into words, all end to end; `counts` [n] add up to the number of words (else ValueError)."""

    words: Sequence[str]
    counts: NDArray[np.int32]

    def __post_init__(self) -> None:
        _check_lengths("words", len(self.words), self.counts)

    def __len__(self) -> int:
        return len(self.counts)


@dataclass(frozen=True, slots=True)
class Ids:
    """Texts that are token ids already: ids [T], lengths [n] that add up to T, type_ids [T] (else ValueError)."""

    ids: NDArray[np.int32]
    lengths: NDArray[np.int32]
    type_ids: NDArray[np.int32] | None = None  # None means all zero

    def __post_init__(self) -> None:
        _check_lengths("token ids", len(self.ids), self.lengths)
        if self.type_ids is not None and len(self.type_ids) != len(self.ids):
            raise ValueError(f"{len(self.ids)} token ids, but {len(self.type_ids)} token type ids")

    def __len__(self) -> int:
        return len(self.lengths)


Inputs = Texts | Pairs | Words | Ids


def _check_lengths(what: str, total: int, lengths: NDArray[np.int32]) -> None:
    if (lengths < 0).any():
        raise ValueError(f"a text cannot have {int(lengths.min())} {what}")
    if (said := int(lengths.sum(dtype=np.int64))) != total:
        raise ValueError(f"the texts should have {said} {what} in all, but there are {total}")


@dataclass(frozen=True, slots=True)
class Truncation:
    """The treatment of texts of more than `max_length` tokens, special tokens included."""

    strategy: Strategy
    max_length: int  # at least 1
    side: Side = "right"  # the end that is cut off

    def __post_init__(self) -> None:
        if self.max_length < 1:
            raise ValueError(f"max_length must be at least 1, not {self.max_length}")


@dataclass(frozen=True, slots=True)
class TokenizeOptions:
    """How to tokenize.

    `windows` returns the tokens that truncation would drop as further rows, each sharing `stride` tokens with the one
    before it; pairs get windows of the text that "only_first" or "only_second" names, each with the whole other text.
    `columns` are those wanted besides ids, lengths and type_ids. `allow_empty` gives texts without any tokens rows of
    length 0, which a model cannot run on, rather than an error.
    """

    truncation: Truncation
    add_special_tokens: bool = True
    windows: bool = False
    stride: int = 0
    columns: frozenset[Column] = frozenset()
    offset_unit: OffsetUnit = "code_points"
    allow_empty: bool = False

    def __post_init__(self) -> None:
        if self.stride < 0:
            raise ValueError(f"stride must be at least 0, not {self.stride}")


@dataclass(frozen=True, slots=True)
class TokenizationError:
    """The reason why one text has no row.

    `option` is set where an option rather than the text is at fault, as its path: "truncation.max_length",
    "truncation.strategy" or "stride". `sequence` is 0 or 1 where one text of a pair alone is at fault, of which the
    message then speaks.
    """

    reason: Reason
    message: str
    option: str = ""
    sequence: int | None = None


@dataclass(frozen=True, slots=True)
class Tokenized:
    """The tokens of n texts as parallel columns, end to end: T tokens in r rows.

    A text has one row, or several with windows, or none where it is among the errors; rows are in the order of the
    texts. Columns that were not asked for are None, and so are those of places in the text for `Ids`.
    Special tokens, and those of the prompt, have word_id and sequence_id -1 and the offsets 0, 0.
    """

    ids: NDArray[np.int32]  # [T]
    lengths: NDArray[np.int32]  # [r]
    text_indexes: NDArray[np.int32]  # [r]: the text that each row is from
    type_ids: NDArray[np.int32] | None  # [T]; None means all zero
    truncated: NDArray[np.bool_]  # [n]: whether tokens were dropped (with windows, never)
    errors: Mapping[int, TokenizationError]  # by index of the text
    tokens: list[str] | None = None  # [T]; "" where the tokenizer has no name for the id
    starts: NDArray[np.int32] | None = None  # [T]; for Words, within the word
    ends: NDArray[np.int32] | None = None  # [T]
    special_tokens_mask: NDArray[np.bool_] | None = None  # [T]
    word_ids: NDArray[np.int32] | None = None  # [T]
    sequence_ids: NDArray[np.int32] | None = None  # [T]; comes with word_ids
    # [w, r], with windows: how many tokens of each of its text's w sequences (1, or 2 for pairs) stand before the row's
    skipped: NDArray[np.int64] | None = None

    def filled_type_ids(self) -> NDArray[np.int32]:
        """Return the type ids, [T], with zeros in place of None."""
        return np.zeros(len(self.ids), np.int32) if self.type_ids is None else self.type_ids


@dataclass(frozen=True, slots=True)
class Detokenized:
    """The text of each list of ids; "" for those among the errors."""

    texts: list[str]
    errors: Mapping[int, TokenizationError]  # by index of the list
