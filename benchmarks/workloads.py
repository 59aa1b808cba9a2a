"""The texts that all contenders are given: made of real words, of known lengths, and the same each time."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BULK = ("lognormal", "tokens-128", "tokens-512")  # workloads of many texts
CORPUS = Path(__file__).with_name("corpus.txt")
# Numbers of words of a text: lognormal, as in people's texts; about 57 tokens on average.
MU, SIGMA, SHORTEST, LONGEST = 3.7, 0.8, 3, 400
MAX_LENGTH = 512  # tokens, including special ones, to which all contenders cut
MOST_MADE = 2048  # different texts of a workload; further ones are rotations of these, which are made in no time

Counter = Callable[[Sequence[str]], list[int]]  # returns the tokens of each text, including special ones


@dataclass(frozen=True, slots=True)
class Workload:
    """Texts, and the number of tokens of each."""

    name: str
    texts: tuple[str, ...]
    tokens: tuple[int, ...]

    @property
    def total_tokens(self) -> int:
        """The tokens of all texts, including special ones, without padding."""
        return sum(self.tokens)

    def save(self, folder: Path) -> Path:
        """Write the texts to a file for other processes, and return its path."""
        path = folder / f"{self.name}.json"
        path.write_text(json.dumps(self.texts), encoding="utf-8")
        return path


@dataclass(frozen=True, slots=True)
class Sizes:
    """The number of texts of each workload."""

    lognormal: int
    tokens_128: int
    tokens_512: int
    single: int

    def times(self, factor: float) -> Sizes:
        """Return the sizes multiplied by a factor, but at least 4."""
        numbers = (self.lognormal, self.tokens_128, self.tokens_512, self.single)
        return Sizes(*(max(4, round(number * factor)) for number in numbers))

    def at_cost(self, cost: float) -> Sizes:
        """Return the sizes for a model with this cost per token. Single calls shrink less, for their percentiles."""
        return replace(self.times(1 / cost), single=max(4, round(self.single / cost**0.5)))


def every(workload: Workload, nth: int) -> Workload:
    """Return every nth text, starting with the first."""
    return replace(workload, texts=workload.texts[::nth], tokens=workload.tokens[::nth])


def head(workload: Workload, count: int, name: str) -> Workload:
    """Return the first `count` texts, under another name."""
    return Workload(name, workload.texts[:count], workload.tokens[:count])


@functools.cache
def sentences() -> tuple[str, ...]:
    """Return English sentences on many subjects; neighbours often mean the same, so similarities vary."""
    return tuple(CORPUS.read_text(encoding="utf-8").splitlines())


def lognormal_lengths(count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Return the number of words of each text: [count]."""
    lengths = np.rint(generator.lognormal(MU, SIGMA, count)).astype(np.int64)
    return np.clip(lengths, SHORTEST, LONGEST)


def shuffled_words(generator: np.random.Generator) -> list[str]:
    """Return all words of the corpus, with its sentences in random order."""
    return " ".join(generator.permutation(np.array(sentences()))).split()


def text_of_words(count: int, generator: np.random.Generator) -> str:
    """Return a text of `count` words: sentences in random order, the last one cut."""
    words: list[str] = []
    while len(words) < count:
        words += shuffled_words(generator)
    return " ".join(words[:count])


def text_of_tokens(count: int, generator: np.random.Generator, word_tokens: dict[str, int]) -> str:
    """Return a text of exactly `count` tokens, without special ones, given the tokens of each word."""
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
    """Return the number of tokens of each word of the corpus, without special ones."""
    words = sorted({word for sentence in sentences() for word in sentence.split()})
    (special,) = count_tokens([""])
    return {word: tokens - special for word, tokens in zip(words, count_tokens(words), strict=True)}


def more(workload: Workload, count: int) -> Workload:
    """Return `count` texts: those of the workload, and then rotations of them by one word, by two, and so on."""
    numbers = range(count)
    texts = tuple(rotated(workload.texts[at % len(workload.texts)], at // len(workload.texts)) for at in numbers)
    return replace(workload, texts=texts, tokens=tuple(workload.tokens[at % len(workload.tokens)] for at in numbers))


def rotated(text: str, words: int) -> str:
    """Return the text with its first `words` words moved to its end, which keeps its number of tokens."""
    if not words:
        return text
    listed = text.split()
    start = words % len(listed)
    return " ".join(listed[start:] + listed[:start])


def lognormal(name: str, count: int, count_tokens: Counter, seed: int) -> Workload:
    """Return a workload of texts with lognormal lengths."""
    generator = np.random.default_rng(seed)
    lengths = lognormal_lengths(min(count, MOST_MADE), generator)
    texts = [text_of_words(int(words), generator) for words in lengths]
    tokens = (min(tokens, MAX_LENGTH) for tokens in count_tokens(texts))
    return more(Workload(name, tuple(texts), tuple(tokens)), count)


def equal(name: str, count: int, tokens: int, count_tokens: Counter, seed: int) -> Workload:
    """Return a workload of texts that all have the same number of tokens, including special ones.

    Raises ValueError if the tokenizer splits words differently in a text than alone.
    """
    generator = np.random.default_rng(seed)
    (special,) = count_tokens([""])
    by_word = word_tokens(count_tokens)
    texts = [text_of_tokens(tokens - special, generator, by_word) for _ in range(min(count, MOST_MADE))]
    if wrong := sorted(set(count_tokens(texts)) - {tokens}):
        raise ValueError(f"{name}: with this tokenizer a text's tokens are not those of its words: {wrong[0]}")
    return more(Workload(name, tuple(texts), (tokens,) * len(texts)), count)


def make(sizes: Sizes, count_tokens: Counter, single_tokens: int = 0) -> dict[str, Workload]:
    """Return all workloads by name. Single texts have `single_tokens` tokens, or lognormal lengths for 0."""
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
