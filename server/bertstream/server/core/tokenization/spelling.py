"""How a vocabulary spells its tokens, and text put together from such spellings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer


class Spelling:
    """The names of all ids, whether they show which tokens go on with a word, and the decoder's way to join them."""

    def __init__(self, tokenizer: Tokenizer, names: Sequence[str]) -> None:
        """names: [V], "" for ids without one."""
        self.names = list(names)
        self.name_lengths = np.fromiter(map(len, names), np.int64, len(names))  # [V], in code points
        # As "##" does. Vocabularies that mark where words start, rather than where they go on, have none.
        self.marks_continuations = bool(getattr(tokenizer.model, "continuing_subword_prefix", None))
        self._decoder = tokenizer.decoder

    def join(self, tokens: Sequence[str]) -> str:
        """Return the decoder's text for these spellings: convert_tokens_to_string of transformers' fast tokenizers."""
        return " ".join(tokens) if self._decoder is None else str(self._decoder.decode(list(tokens)))
