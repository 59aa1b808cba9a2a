"""Texts as the caller sent them, and what their errors call them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bertstream.server.core.tokenization import Inputs


@dataclass(frozen=True, slots=True)
class SentTexts:
    """The texts of one message. Paths are the protocol's."""

    inputs: Inputs
    path: str  # of all of them: "inputs"
    field: str  # what a text's index stands behind: "inputs.texts"
    bad: Sequence[int] = ()  # the indexes of those that have strings which are not UTF-8

    def at(self, index: int) -> str:
        """The path of a text: "inputs.texts[3]"."""
        return f"{self.field}[{index}]"
