"""Prepares a message's texts for a task: tokenizes them, and sets aside those that failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from bertstream.server.core.errors import RequestError, not_utf8
from bertstream.server.core.plans import with_special_tokens
from bertstream.server.core.preparation import NAMES, text_error
from bertstream.server.core.selection import select_rows
from bertstream.server.core.sent import SentItems
from bertstream.server.core.tasks.base import HeadModel
from bertstream.server.core.tokenization import Inputs, Tokenized, TokenizeOptions
from bertstream.workers.contract import Batch


@dataclass(frozen=True, slots=True)
class TaskTexts:
    """The rows of all texts that can be computed, and the errors of those that cannot."""

    tokens: Tokenized  # `truncated` is of all texts of the message
    failed: dict[int, RequestError]  # by the text's index in the message

    @property
    def batch(self) -> Batch:
        """Return the rows for the workers."""
        return Batch(self.tokens.ids, self.tokens.lengths, self.tokens.type_ids)

    def without(self, gone: Mapping[int, RequestError]) -> TaskTexts:
        """Return these texts without the rows of further ones that failed, whose errors are `gone`."""
        if not gone:
            return self
        kept = np.flatnonzero(~np.isin(self.tokens.text_indexes, list(gone)))
        return TaskTexts(select_rows(self.tokens, kept), {**gone, **self.failed})


def tokenize(
    model: HeadModel,
    inputs: Inputs,
    options: TokenizeOptions,
    sent: SentItems,
    at: Callable[[int, int | None], str] | None = None,
    prompt: str = "",
    names: tuple[str, str] = NAMES,
) -> TaskTexts:
    """Tokenize the message's texts, or texts made from them; `at` gives a text's path, if not `sent.at`.

    names: what errors call the two texts of a pair.

    Token ids are taken as they are, and everything else gets special tokens unless the options say otherwise.
    """
    at = at or sent.at
    tokens = model.tokenizer.tokenize(
        inputs, with_special_tokens(options, None if options.add_special_tokens else False, inputs), prompt
    )
    failed = {
        index: text_error(error, at(index, error.sequence), sent, names) for index, error in tokens.errors.items()
    }
    failed |= {index: not_utf8(at(index, None)) for index in sent.bad}
    return TaskTexts(tokens, {}).without(failed)
