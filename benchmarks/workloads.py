"""The texts that everyone is given: made of real words, of known lengths, the same ones each time."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BULK = ("lognormal", "tokens-128", "tokens-512")  # of many texts
CORPUS = Path(__file__).with_name("corpus.txt")
# Words of a text: lognormal, as people's texts are; mean about 57 tokens.
MU, SIGMA, SHORTEST, LONGEST = 3.7, 0.8, 3, 400
MAX_LENGTH = 512  # tokens, special ones included; all are told to cut there
MOST_MADE = 2048  # texts of a workload; more are the same ones that begin elsewhere, which takes no time to speak of

Counter = Callable[[Sequence[str]], list[int]]  # tokens of each text, special ones included


@dataclass(frozen=True, slots=True)
class Workload:
    """Texts, and how many tokens each has."""

    name: str
    texts: tuple[str, ...]
    tokens: tuple[int, ...]

    @property
    def total_tokens(self) -> int:
        """Of all texts, special ones included, without any padding."""
        return sum(self.tokens)

    def save(self, folder: Path) -> Path:
        """Write the texts where other processes read them."""
        path = folder / f"{self.name}.json"
        path.write_text(json.dumps(self.texts), encoding="utf-8")
        return path


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many texts each workload has."""

    lognormal: int
    tokens_128: int
    tokens_512: int
    single: int

    def times(self, factor: float) -> Sizes:
        """At least four of each."""
        numbers = (self.lognormal, self.tokens_128, self.tokens_512, self.single)
        return Sizes(*(max(4, round(number * factor)) for number in numbers))

    def at_cost(self, cost: float) -> Sizes:
        """For so many times as much work a token. Single calls shrink less, for their percentiles' sake."""
        return replace(self.times(1 / cost), single=max(4, round(self.single / cost**0.5)))


def every(workload: Workload, nth: int) -> Workload:
    """Every so-many-th text, at least one."""
    return replace(workload, texts=workload.texts[::nth], tokens=workload.tokens[::nth])


def head(workload: Workload, count: int, name: str) -> Workload:
    """The first few texts, under another name."""
    return Workload(name, workload.texts[:count], workload.tokens[:count])


@functools.cache
def sentences() -> tuple[str, ...]:
    """English of many subjects; neighbours often mean the same, which makes their similarity worth measuring."""
    return tuple(CORPUS.read_text(encoding="utf-8").splitlines())


def lognormal_lengths(count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Words of so many texts. [count]"""
    lengths = np.rint(generator.lognormal(MU, SIGMA, count)).astype(np.int64)
    return np.clip(lengths, SHORTEST, LONGEST)


def shuffled_words(generator: np.random.Generator) -> list[str]:
    """All words of the corpus, its sentences in some order."""
    return " ".join(generator.permutation(np.array(sentences()))).split()


def text_of_words(count: int, generator: np.random.Generator) -> str:
    """A text of so many words: sentences in some order, the last one cut."""
    words: list[str] = []
    while len(words) < count:
        words += shuffled_words(generator)
    return " ".join(words[:count])


def text_of_tokens(count: int, generator: np.random.Generator, word_tokens: dict[str, int]) -> str:
    """A text of exactly so many tokens, special ones not counted, by how many tokens each word has."""
    chosen: list[str] = []
    left = count
    while left > 0:
        fitting = [word for word in shuffled_words(generator) if word_tokens[word] <= left]
        for word in fitting:
            if word_tokens[word] <= left:
                chosen.append(word)
                left -= word_tokens[word]
    return " ".join(chosen)


def word_tokens(count_tokens: Counter) -> dict[str, int]:
    """Tokens of each word of the corpus alone, special ones not counted."""
    words = sorted({word for sentence in sentences() for word in sentence.split()})
    (special,) = count_tokens([""])
    return {word: tokens - special for word, tokens in zip(words, count_tokens(words), strict=True)}


def more(workload: Workload, count: int) -> Workload:
    """So many texts, made of these: after them the same again, each time beginning at another of their words."""
    numbers = range(count)
    texts = tuple(turned(workload.texts[at % len(workload.texts)], at // len(workload.texts)) for at in numbers)
    return replace(workload, texts=texts, tokens=tuple(workload.tokens[at % len(workload.tokens)] for at in numbers))


def turned(text: str, words: int) -> str:
    """The text from its so-many-th word on, then what was before it: as many tokens, where a word has its own."""
    if not words:
        return text
    listed = text.split()
    start = words % len(listed)
    return " ".join(listed[start:] + listed[:start])


def lognormal(name: str, count: int, count_tokens: Counter, seed: int) -> Workload:
    """Texts of lognormal length."""
    generator = np.random.default_rng(seed)
    lengths = lognormal_lengths(min(count, MOST_MADE), generator)
    texts = [text_of_words(int(words), generator) for words in lengths]
    tokens = (min(tokens, MAX_LENGTH) for tokens in count_tokens(texts))
    return more(Workload(name, tuple(texts), tuple(tokens)), count)


def equal(name: str, count: int, tokens: int, count_tokens: Counter, seed: int) -> Workload:
    """Texts that all have so many tokens, special ones included. Raises ValueError where this tokenizer cannot."""
    generator = np.random.default_rng(seed)
    (special,) = count_tokens([""])
    by_word = word_tokens(count_tokens)
    texts = [text_of_tokens(tokens - special, generator, by_word) for _ in range(min(count, MOST_MADE))]
    if wrong := sorted(set(count_tokens(texts)) - {tokens}):
        raise ValueError(f"{name}: with this tokenizer a text's tokens are not those of its words: {wrong[0]}")
    return more(Workload(name, tuple(texts), (tokens,) * len(texts)), count)


def make(sizes: Sizes, count_tokens: Counter, single_tokens: int = 0) -> dict[str, Workload]:
    """All workloads by name. Single texts are of lognormal length, too, unless they are to have so many tokens."""
    single = functools.partial(equal, tokens=single_tokens) if single_tokens else lognormal
    made = (
        lognormal("lognormal", sizes.lognormal, count_tokens, seed=1),
        equal("tokens-128", sizes.tokens_128, 128, count_tokens, seed=2),
        equal("tokens-512", sizes.tokens_512, 512, count_tokens, seed=3),
        single("single", sizes.single, count_tokens=count_tokens, seed=4),
        lognormal("calibration", 128, count_tokens, seed=5),
        Workload("quality", sentences(), tuple(count_tokens(sentences()))),
    )
    return {workload.name: workload for workload in made}
