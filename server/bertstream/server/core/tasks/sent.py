"""The items of a message, as the caller sent them, and what their errors call them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.tokenization import Inputs, Texts


@dataclass(frozen=True, slots=True)
class ChoiceLists:
    """Prompts with choices, which are end to end."""

    prompts: Sequence[str]
    choices: Sequence[str]
    counts: NDArray[np.int64]  # of each prompt's choices; not checked yet


@dataclass(frozen=True, slots=True)
class Sent:
    """Items of one kind, and where they lie in the request. Paths are the protocol's."""

    inputs: Inputs | ChoiceLists
    path: str = "inputs"  # of all of them
    field: str = "inputs.texts"  # what an item's index stands behind
    bad: Sequence[int] = ()  # the indexes of those that have strings which are not UTF-8
    offset: int = 0  # items of the same message before the first
    options: str = "options"  # the path of the task's options

    def at(self, index: int) -> str:
        """The path of an item: "inputs.texts[3]"."""
        return f"{self.field}[{index + self.offset}]"

    def parts(self, size: int) -> Iterator[Sent]:
        """Whole texts, so many at a time; everything else, and what is no more, as it is."""
        if not isinstance(self.inputs, Texts) or len(self.inputs) <= size:
            yield self
            return
        texts = self.inputs.texts
        for first in range(0, len(texts), size):
            bad = [index - first for index in self.bad if first <= index < first + size]
            some = Texts(texts[first : first + size])
            yield replace(self, inputs=some, bad=bad, offset=self.offset + first)
