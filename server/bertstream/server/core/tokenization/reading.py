"""Reads long texts in parts: no further than needed, and with the memory that one part takes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding

from bertstream.server.core.tokenization import cancelling
from bertstream.server.core.tokenization.cuts import LEAD, Cuts
from bertstream.server.core.tokenization.values import Side

# The most characters that are tokenized at once, where a text can be cut: some 50 ms, and some 10 MB.
PART_CHARACTERS = 1 << 16
# Enough characters for a token, so that the first part of a text is mostly all that is needed of it.
FIRST_CHARACTERS = 1 << 11
TOKEN_CHARACTERS = 8

Int32 = NDArray[np.int32]
Text = str | list[str]  # a whole text, or its words
Encode = Callable[[Sequence[Text]], list[Encoding]]


@dataclass(frozen=True, slots=True)
class Need:
    """How much of each sequence is needed, where not all of it."""

    tokens: int  # from the end that is kept; one more than can be kept, so that it is known whether any are cut off
    side: Side  # the end that is cut off
    which_is_longer: bool = False  # whether to find the longer text of a pair, even where both have this many tokens


@dataclass(frozen=True, slots=True)
class Found:
    """The t tokens of some sequences."""

    lengths: Int32  # of each sequence
    ids: Int32  # [t]
    offsets: Int32 = field(default_factory=lambda: np.zeros((0, 2), np.int32))  # [t, 2], if asked for
    word_ids: Int32 = field(default_factory=lambda: np.zeros(0, np.int32))  # [t], if asked for; -1 for none


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a text that is tokenized at once."""

    text: Text
    at: int = 0  # where it starts in its text or word
    word: int = 0  # the first word, where words are given
    follows: bool = False  # whether LEAD is before it


class Reading:
    """One long sequence as far as it has been read, from the end that is kept."""

    def __init__(self, sequence: Text, cuts: Cuts, encode: Encode, places: bool, need: Need | None) -> None:
        self.count = 0  # tokens found
        self._cuts = cuts
        self._encode = encode
        self._places = places
        self._backwards = need is not None and need.side == "left"
        self._size = _first_part(need)
        self._gives_words = not isinstance(sequence, str)
        self._parts = self._of_text(sequence) if isinstance(sequence, str) else self._of_words(sequence)
        self._next = next(self._parts, None)
        self._found: list[Found] = []
        self._words = 0  # the number of words found, counted from where reading began

    @property
    def done(self) -> bool:
        """Whether all of the sequence has been read."""
        return self._next is None

    def read(self, tokens: int | None) -> None:
        """Read on until this many tokens are found, or to the end where None."""
        while self._next is not None and (tokens is None or self.count < tokens):
            cancelling.check()
            self._found.append(self._tokenized(self._next))
            self.count += len(self._found[-1].ids)
            self._next = next(self._parts, None)

    def found(self) -> Found:
        """Return the tokens read so far; of a text read from its end, the word ids are not those of the whole."""
        order = self._found[::-1] if self._backwards else self._found
        nothing = Found(np.zeros(0, np.int32), np.zeros(0, np.int32))
        columns = zip(*[(each.ids, each.offsets, each.word_ids) for each in (nothing, *order)], strict=True)
        return Found(np.array([self.count], np.int32), *map(np.concatenate, columns))

    def _of_text(self, text: str, word: int | None = None) -> Iterator[_Part]:
        """Yield the parts of a text or of one word."""
        start, stop = 0, len(text)
        while start < stop:
            if self._backwards:
                low, high = self._cuts.before(text, stop - self._size), stop
                stop = low
            else:
                low, high = start, self._cuts.after(text, start + self._size)
                start = high
            part = (LEAD if low else "") + text[low:high]
            yield _Part(part if word is None else [part], low, word or 0, follows=low > 0)
            self._grow()

    def _of_words(self, words: list[str]) -> Iterator[_Part]:
        held: list[int] = []
        size = 0
        for word in reversed(range(len(words))) if self._backwards else range(len(words)):
            if len(words[word]) > self._size:
                yield from _together(words, held)
                yield from self._of_text(words[word], word)
                held, size = [], 0
                continue
            held.append(word)
            size += 1 + len(words[word])
            if size > self._size:
                yield from _together(words, held)
                self._grow()
                held, size = [], 0
        yield from _together(words, held)

    def _grow(self) -> None:
        self._size = max(self._size, min(2 * self._size, PART_CHARACTERS))

    def _tokenized(self, part: _Part) -> Found:
        (encoding,) = self._encode([part.text])
        skipped = self._cuts.lead_tokens if part.follows else 0
        ids = np.array(encoding.ids, np.int32)[skipped:]
        if not self._places:
            return Found(np.array([len(ids)], np.int32), ids)
        offsets = np.array(encoding.offsets, np.int32).reshape(-1, 2)[skipped:]
        offsets += np.int32(part.at - (len(LEAD) if part.follows else 0))
        word_ids = np.array(encoding.word_ids, np.int32)[skipped:]
        if self._gives_words:
            word_ids += np.int32(part.word)
        else:
            word_ids += np.int32(self._words - part.follows)
            self._words = int(word_ids.max(initial=self._words - 1)) + 1
        return Found(np.array([len(ids)], np.int32), ids, offsets, word_ids)


def _together(words: list[str], numbers: list[int]) -> Iterator[_Part]:
    if numbers:
        first, last = min(numbers), max(numbers)
        yield _Part(words[first : last + 1], word=first)


def _first_part(need: Need | None) -> int:
    if need is None:
        return PART_CHARACTERS
    return min(max(need.tokens * TOKEN_CHARACTERS, FIRST_CHARACTERS), PART_CHARACTERS)


def sizes(sequences: Sequence[Text]) -> list[int]:
    """Return the number of characters of each sequence; of words, plus one for each word."""
    return list(map(len if sequences and isinstance(sequences[0], str) else _size, sequences))


def long_ones(sizes: Sequence[int], need: Need | None) -> list[int]:
    """Return the indexes of the sequences that are worth reading in parts."""
    limit = 2 * _first_part(need)
    return [index for index, size in enumerate(sizes) if size > limit]


def groups(sizes: Sequence[int], alone: Collection[int]) -> Iterator[list[int]]:
    """Yield all indexes in order: those in `alone` singly, the others together as long as their characters allow."""
    held: list[int] = []
    together = 0
    for index, size in enumerate(sizes):
        if held and (together > PART_CHARACTERS or index in alone or held[0] in alone):
            yield held
            held, together = [], 0
        held.append(index)
        together += size
    if held:
        yield held


def _size(sequence: Text) -> int:
    return len(sequence) if isinstance(sequence, str) else len(sequence) + sum(map(len, sequence))


def decide_which_is_longer(first: Reading, second: Reading) -> None:
    """Read on until the counts of both tell whether the first has more tokens than the second."""
    while not _is_decided(first, second):
        behind = min((each for each in (first, second) if not each.done), key=lambda each: each.count)
        behind.read(behind.count + 1)


def _is_decided(first: Reading, second: Reading) -> bool:
    if first.done:
        return second.done or second.count >= first.count
    return second.done and first.count > second.count
