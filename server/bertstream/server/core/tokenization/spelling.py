"""Spells the tokens of a vocabulary, and joins such spellings to text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer


class Spelling:
    """The names of all ids, whether they mark the tokens that continue a word, and the decoder's way to join them."""

    def __init__(self, tokenizer: Tokenizer, names: Sequence[str]) -> None:
        """Take the names of all ids: [V], "" for ids without one."""
        self.names = list(names)
        self.name_lengths = np.fromiter(map(len, names), np.int64, len(names))  # [V], in code points
        # The prefix of continuations, such as "##"; vocabularies that mark the starts of words have none.
        self.marks_continuations = bool(getattr(tokenizer.model, "continuing_subword_prefix", None))
        self._decoder = tokenizer.decoder

    def join(self, tokens: Sequence[str]) -> str:
        """Return the decoder's text for these spellings, as transformers' convert_tokens_to_string does."""
        return " ".join(tokens) if self._decoder is None else str(self._decoder.decode(list(tokens)))
