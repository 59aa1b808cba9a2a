"""What the Rust tokenizer finds in texts, read into columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from bertstream.server.tokenization import ragged
from bertstream.server.tokenization.values import Ids, Inputs, Pairs, Texts, TokenizationError, Words

Errors = dict[int, TokenizationError]


@dataclass(frozen=True, slots=True)
class Places:
    """Where each of S tokens is in its text."""

    offsets: NDArray[np.int32]  # [S, 2], in code points
    word_ids: NDArray[np.int32]  # [S], -1 for none
    is_prompt: NDArray[np.bool_]  # [S]; then the offsets are 0, 0 and the word id is -1


@dataclass(frozen=True, slots=True)
class Sequences:
    """Tokens of m sequences end to end, S in all, without special tokens.

    A text is one sequence; of n pairs the first n sequences are the first texts, the next n the second texts.
    """

    ids: NDArray[np.int32]  # [S]
    lengths: NDArray[np.int32]  # [m]
    given: bool = False  # the caller sent them as ids
    type_ids: NDArray[np.int32] | None = None  # [S]; only where given
    places: Places | None = None  # only where asked for
    own_starts: NDArray[np.int64] | None = None  # [m], where sequences share their tokens rather than lie end to end

    @property
    def starts(self) -> NDArray[np.int64]:
        """Where each sequence starts among the tokens. [m]"""
        return ragged.first_indexes(self.lengths) if self.own_starts is None else self.own_starts


def find_sequences(tokenizer: Tokenizer, inputs: Inputs, prompt: str, places: bool) -> tuple[Sequences, Errors]:
    """Tokenizes; `places` asks for offsets and word ids. A text that cannot be spelled has no tokens, and an error."""
    match inputs:
        case Ids(ids, lengths, type_ids):
            _refuse_prompt(prompt)
            return Sequences(ids, lengths, given=True, type_ids=type_ids), {}
        case Texts(texts):
            return _encode(tokenizer, _prefixed(prompt, texts), places, len(inputs), prompt)
        case Pairs(firsts, seconds):
            texts = [*_prefixed(prompt, firsts), *seconds]
            if not places and len(distinct := dict.fromkeys(texts)) < len(texts):
                return _encode_distinct(tokenizer, texts, list(distinct), len(inputs))
            return _encode(tokenizer, texts, places, len(inputs), prompt)
        case Words(words, counts):
            _refuse_prompt(prompt)
            return _encode(tokenizer, _split(words, counts), places, len(inputs), prompt)


def _refuse_prompt(prompt: str) -> None:
    if prompt:
        raise ValueError("a prompt cannot be put before words or token ids")


def _prefixed(prompt: str, texts: Sequence[str]) -> list[str]:
    return [prompt + text for text in texts] if prompt else list(texts)


def _split(words: Sequence[str], counts: NDArray[np.int32]) -> list[list[str]]:
    ends = np.cumsum(counts, dtype=np.int64).tolist()
    return [list(words[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


def _encode(
    tokenizer: Tokenizer, sequences: Sequence[str | list[str]], places: bool, texts: int, prompt: str
) -> tuple[Sequences, Errors]:
    errors: Errors = {}
    try:
        encodings = _encode_batch(tokenizer, sequences, places)
    except Exception:  # the Rust side raises plain Exception, for the whole batch
        encodings = []
        for index, sequence in enumerate(sequences):
            encodings.append(_encode_alone(tokenizer, sequence, places, index % texts, errors))
    found = _columns(encodings)
    if places:
        of_prompt = np.where(np.arange(len(sequences)) < texts, len(prompt), 0)  # second texts have no prompt
        found = replace(found, places=_places(encodings, found, of_prompt))
    return found, errors


def _encode_distinct(
    tokenizer: Tokenizer, sequences: Sequence[str], distinct: list[str], texts: int
) -> tuple[Sequences, Errors]:
    """Encodes a text that is in many pairs, such as a query with many documents, only once."""
    found, failed = _encode(tokenizer, distinct, places=False, texts=len(distinct), prompt="")
    numbers = {text: number for number, text in enumerate(distinct)}
    of = np.fromiter(map(numbers.__getitem__, sequences), np.int64, len(sequences))
    errors = {i % texts: failed[of[i]] for i in np.flatnonzero(np.isin(of, list(failed))).tolist()}
    return Sequences(found.ids, found.lengths[of], own_starts=found.starts[of]), errors


def _encode_batch(tokenizer: Tokenizer, sequences: Sequence[str | list[str]], places: bool) -> list[Encoding]:
    # The fast variant keeps no offsets, word ids or token strings.
    encode = tokenizer.encode_batch if places else tokenizer.encode_batch_fast
    is_pretokenized = bool(sequences) and not isinstance(sequences[0], str)
    return list(encode(sequences, is_pretokenized=is_pretokenized, add_special_tokens=False))


def _encode_alone(tokenizer: Tokenizer, sequence: str | list[str], places: bool, text: int, errors: Errors) -> Encoding:
    try:
        return _encode_batch(tokenizer, [sequence], places)[0]
    except Exception as error:
        errors[text] = TokenizationError("INVALID_TEXT", f"cannot be tokenized: {error}")
        return Encoding()


def _columns(encodings: list[Encoding]) -> Sequences:
    lengths = np.fromiter(map(len, encodings), np.int32, len(encodings))
    total = int(lengths.sum(dtype=np.int64))
    return Sequences(np.fromiter(chain.from_iterable([each.ids for each in encodings]), np.int32, total), lengths)


def _places(encodings: list[Encoding], found: Sequences, prompt_lengths: NDArray[np.int64]) -> Places:
    total = len(found.ids)
    pairs = chain.from_iterable([each.offsets for each in encodings])
    offsets = np.fromiter(chain.from_iterable(pairs), np.int32, 2 * total).reshape(total, 2)
    words = chain.from_iterable([each.word_ids for each in encodings])
    word_ids = np.fromiter((-1 if word is None else word for word in words), np.int32, total)
    if not prompt_lengths.any():
        return Places(offsets, word_ids, np.zeros(total, np.bool_))
    return _after_prompt(offsets, word_ids, ragged.owners(found.lengths), prompt_lengths)


def _after_prompt(
    offsets: NDArray[np.int32], word_ids: NDArray[np.int32], of: NDArray[np.int64], prompt_lengths: NDArray[np.int64]
) -> Places:
    """Counts offsets and words from where the text starts; a token of both prompt and text is the text's."""
    shift = prompt_lengths[of]
    is_prompt = (offsets[:, 1] <= shift) & (shift > 0)
    in_word = ~is_prompt & (word_ids >= 0)
    first_words = np.full(len(prompt_lengths), np.iinfo(np.int32).max, np.int32)
    np.minimum.at(first_words, of[in_word], word_ids[in_word])
    return Places(
        np.where(is_prompt[:, None], 0, np.maximum(offsets - shift[:, None], 0)).astype(np.int32),
        np.where(in_word, word_ids - first_words[of], -1).astype(np.int32),
        is_prompt,
    )
