"""Reads the tokens that the Rust tokenizer finds in texts into columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from bertstream.server.core.tokenization import cancelling, ragged
from bertstream.server.core.tokenization.cuts import Cuts
from bertstream.server.core.tokenization.reading import (
    Found,
    Need,
    Reading,
    decide_which_is_longer,
    groups,
    long_ones,
    sizes,
)
from bertstream.server.core.tokenization.values import Ids, Inputs, Pairs, Texts, TokenizationError, Words

Errors = dict[int, TokenizationError]
Int32 = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Places:
    """The places of S tokens in their texts."""

    offsets: NDArray[np.int32]  # [S, 2], in code points
    word_ids: NDArray[np.int32]  # [S], -1 for none
    is_prompt: NDArray[np.bool_]  # [S]; the prompt's tokens have the offsets 0, 0 and the word id -1


@dataclass(frozen=True, slots=True)
class Sequences:
    """The S tokens of m sequences, end to end, without special tokens.

    A text is one sequence; of n pairs the first n sequences are the first texts, the next n the second texts.
    """

    ids: NDArray[np.int32]  # [S]
    lengths: NDArray[np.int32]  # [m]
    given: bool = False  # whether the caller sent them as ids
    type_ids: NDArray[np.int32] | None = None  # [S]; only where given
    places: Places | None = None  # only where asked for
    own_starts: NDArray[np.int64] | None = None  # [m], where sequences share tokens rather than lie end to end
    unread: NDArray[np.bool_] | None = None  # [m]: whether it has more tokens, which are not needed; None: none has

    @property
    def starts(self) -> NDArray[np.int64]:
        """Return where each sequence starts among the tokens: [m]."""
        return ragged.first_indexes(self.lengths) if self.own_starts is None else self.own_starts


class Finder:
    """Finds the tokens of texts with one tokenizer, part by part where it is known how to cut a long text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._cuts = Cuts.of(tokenizer)

    def find(self, inputs: Inputs, prompt: str, places: bool, need: Need | None) -> tuple[Sequences, Errors]:
        """Tokenize the inputs; a text that cannot be spelled has no tokens, and an error.

        places: whether offsets and word ids are wanted. need: how much of long texts is needed; the rest is not read.
        """
        match inputs:
            case Ids(ids, lengths, type_ids):
                _refuse_prompt(prompt)
                return Sequences(ids, lengths, given=True, type_ids=type_ids), {}
            case Texts(texts):
                return self._encode(_prefixed(prompt, texts), places, len(inputs), prompt, need)
            case Pairs(firsts, seconds):
                texts = [*_prefixed(prompt, firsts), *seconds]
                if not places and len(distinct := dict.fromkeys(texts)) < len(texts):
                    return self._encode_distinct(texts, list(distinct), len(inputs), need)
                pairs = [(index, len(inputs) + index) for index in range(len(inputs))]
                return self._encode(texts, places, len(inputs), prompt, need, pairs)
            case Words(words, counts):
                _refuse_prompt(prompt)
                return self._encode(_split(words, counts), places, len(inputs), prompt, need)

    def _encode(
        self,
        sequences: Sequence[str | list[str]],
        places: bool,
        texts: int,
        prompt: str,
        need: Need | None,
        pairs: Sequence[tuple[int, int]] = (),
    ) -> tuple[Sequences, Errors]:
        errors: Errors = {}
        characters = sizes(sequences)
        readings = self._readings(sequences, long_ones(characters, need), places, need, texts, errors, pairs)
        found = [_found([], places)]
        for group in groups(characters, readings):
            if group[0] in readings:
                found.append(readings[group[0]].found())
            else:
                cancelling.check()
                of = [index % texts for index in group]
                found.append(_found(self._encode_group([sequences[i] for i in group], places, of, errors), places))
        lengths = np.concatenate([each.lengths for each in found])
        unread = None
        if readings:
            unread = np.array([i in readings and not readings[i].done for i in range(len(sequences))], np.bool_)
        made = Sequences(np.concatenate([each.ids for each in found]), lengths, unread=unread)
        if places:
            of_prompt = np.where(np.arange(len(sequences)) < texts, len(prompt), 0)  # second texts have no prompt
            made = replace(made, places=_places(found, lengths, of_prompt))
        return made, errors

    def _encode_distinct(
        self, sequences: Sequence[str], distinct: list[str], texts: int, need: Need | None
    ) -> tuple[Sequences, Errors]:
        """Encode each distinct text once, such as a query that is in pairs with many documents."""
        numbers = {text: number for number, text in enumerate(distinct)}
        of = np.fromiter(map(numbers.__getitem__, sequences), np.int64, len(sequences))
        pairs = list(zip(of[:texts].tolist(), of[texts:].tolist(), strict=True))
        found, failed = self._encode(distinct, False, len(distinct), "", need, pairs)
        errors = {i % texts: failed[of[i]] for i in np.flatnonzero(np.isin(of, list(failed))).tolist()}
        unread = None if found.unread is None else found.unread[of]
        return Sequences(found.ids, found.lengths[of], own_starts=found.starts[of], unread=unread), errors

    def _readings(
        self,
        sequences: Sequence[str | list[str]],
        long: Sequence[int],
        places: bool,
        need: Need | None,
        texts: int,
        errors: Errors,
        pairs: Sequence[tuple[int, int]],
    ) -> dict[int, Reading]:
        """Return the readings of long sequences, and of those whose counts matter beside them, as far as needed."""
        cuts, readings = self._cuts, dict[int, Reading]()
        if cuts is None:
            return readings

        def read(index: int, tokens: int | None) -> None:
            encode = partial(self._encode_group, places=places, texts=[index % texts], errors=errors)
            readings[index] = Reading(sequences[index], cuts, encode, places, need)
            readings[index].read(tokens)

        for index in long:
            read(index, None if need is None else need.tokens)
        if need is not None and need.which_is_longer:
            unread = {index for index, each in readings.items() if not each.done}
            beside = {index for pair in pairs if not unread.isdisjoint(pair) for index in pair}
            for index in sorted(beside - readings.keys()):
                read(index, None)
            for first, second in pairs:
                if first != second and first in readings and second in readings:
                    decide_which_is_longer(readings[first], readings[second])
        return readings

    def _encode_group(
        self, sequences: Sequence[str | list[str]], places: bool, texts: list[int], errors: Errors
    ) -> list[Encoding]:
        try:
            return encode_batch(self._tokenizer, sequences, places)
        except Exception:  # the Rust side raises plain Exception, for the whole batch
            alone = zip(sequences, texts, strict=True)
            return [_encode_alone(self._tokenizer, sequence, places, text, errors) for sequence, text in alone]


def _refuse_prompt(prompt: str) -> None:
    if prompt:
        raise ValueError("a prompt cannot be put before words or token ids")


def _prefixed(prompt: str, texts: Sequence[str]) -> list[str]:
    return [prompt + text for text in texts] if prompt else list(texts)


def _split(words: Sequence[str], counts: NDArray[np.int32]) -> list[list[str]]:
    ends = np.cumsum(counts, dtype=np.int64).tolist()
    return [list(words[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


def encode_batch(tokenizer: Tokenizer, sequences: Sequence[str | list[str]], places: bool) -> list[Encoding]:
    """Encode sequences, all of them texts or all lists of words, by one call of the Rust tokenizer."""
    # The fast variant gives no offsets, word ids or token strings.
    encode = tokenizer.encode_batch if places else tokenizer.encode_batch_fast
    is_pretokenized = bool(sequences) and not isinstance(sequences[0], str)
    return list(encode(sequences, is_pretokenized=is_pretokenized, add_special_tokens=False))


def _encode_alone(tokenizer: Tokenizer, sequence: str | list[str], places: bool, text: int, errors: Errors) -> Encoding:
    try:
        return encode_batch(tokenizer, [sequence], places)[0]
    except Exception as error:
        errors[text] = TokenizationError("INVALID_TEXT", f"cannot be tokenized: {error}")
        return Encoding()


def _found(encodings: list[Encoding], places: bool) -> Found:
    lengths = np.fromiter(map(len, encodings), np.int32, len(encodings))
    total = int(lengths.sum(dtype=np.int64))
    ids = np.fromiter(chain.from_iterable([each.ids for each in encodings]), np.int32, total)
    if not places:
        return Found(lengths, ids)
    pairs = chain.from_iterable([each.offsets for each in encodings])
    offsets = np.fromiter(chain.from_iterable(pairs), np.int32, 2 * total).reshape(total, 2)
    words = chain.from_iterable([each.word_ids for each in encodings])
    word_ids = np.fromiter((-1 if word is None else word for word in words), np.int32, total)
    return Found(lengths, ids, offsets, word_ids)


def _places(found: list[Found], lengths: Int32, prompt_lengths: NDArray[np.int64]) -> Places:
    offsets = np.concatenate([each.offsets for each in found])
    word_ids = np.concatenate([each.word_ids for each in found])
    if not prompt_lengths.any():
        return Places(offsets, word_ids, np.zeros(len(word_ids), np.bool_))
    return _after_prompt(offsets, word_ids, ragged.owners(lengths), prompt_lengths)


def _after_prompt(
    offsets: NDArray[np.int32], word_ids: NDArray[np.int32], of: NDArray[np.int64], prompt_lengths: NDArray[np.int64]
) -> Places:
    """Count offsets and words from where the text starts; a token of both prompt and text belongs to the text."""
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
