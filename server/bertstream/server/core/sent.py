"""What the caller sent in one message, and the paths by which errors name it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.tokenization import Inputs, Texts


@dataclass(frozen=True, slots=True)
class ChoiceLists:
    """Prompts, and their choices end to end."""

    prompts: Sequence[str]
    choices: Sequence[str]
    counts: NDArray[np.int64]  # the number of each prompt's choices; not checked yet


Content = TypeVar("Content", bound=Inputs | ChoiceLists, covariant=True)


@dataclass(frozen=True, slots=True)
class Sent(Generic[Content]):
    """Items of one kind, and where they lie in the request. Paths are the protocol's."""

    inputs: Content
    path: str = "inputs"  # of all of them
    field: str = "inputs.texts"  # to which an item's index is appended
    bad: Sequence[int] = ()  # the indexes of items that have strings which are not UTF-8
    offset: int = 0  # items of the same message before the first
    options: str = "options"  # the path of the options that they come with
    option_paths: Mapping[str, str] | None = None  # of options that are elsewhere, or called otherwise
    single: bool = False  # the field is one item rather than a list
    # Where the two texts of pairs have fields of their own: their paths, with [] where an item's index goes.
    of_pairs: tuple[str, str] | None = None

    def option(self, name: str) -> str:
        """Return the path of an option, such as "options.truncation.max_length"."""
        return (self.option_paths or {}).get(name, f"{self.options}.{name}")

    def at(self, index: int, sequence: int | None = None) -> str:
        """Return the path of an item: "inputs.texts[3]", or "inputs" where it is the only one that there can be.

        sequence: 0 or 1 for the path of the first or second text of a pair, where that has one.
        """
        if sequence is not None and self.of_pairs is not None:
            return self.of_pairs[sequence].replace("[]", f"[{index + self.offset}]")
        return self.field if self.single else f"{self.field}[{index + self.offset}]"


SentTexts: TypeAlias = Sent[Inputs]  # what is encoded, or generated from
SentItems: TypeAlias = Sent[Inputs | ChoiceLists]  # what tasks take


def in_parts(sent: SentItems, size: int) -> Iterator[SentItems]:
    """Yield texts `size` at a time; fewer texts, and items of any other kind, stay as they are."""
    if not isinstance(sent.inputs, Texts) or len(sent.inputs) <= size:
        yield sent
        return
    texts = sent.inputs.texts
    for first in range(0, len(texts), size):
        bad = [index - first for index in sent.bad if first <= index < first + size]
        some = Texts(texts[first : first + size])
        yield replace(sent, inputs=some, bad=bad, offset=sent.offset + first)
