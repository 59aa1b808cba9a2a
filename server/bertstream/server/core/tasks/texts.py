"""A message's texts made ready for a task: of a kind that it takes, tokenized, and those that failed set aside."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from bertstream.server.core.errors import RequestError, invalid, not_utf8
from bertstream.server.core.plans import with_special_tokens
from bertstream.server.core.preparation import text_error
from bertstream.server.core.selection import select_rows
from bertstream.server.core.tasks.base import HeadModel
from bertstream.server.core.tasks.sent import Sent
from bertstream.server.core.tokenization import Inputs, Pairs, Tokenized, TokenizeOptions
from bertstream.server.protocols.bertstream_v1.validation.inputs import parse_inputs
from bertstream.v1 import tasks_pb2
from bertstream.workers.contract import Batch

ALL_KINDS = ("texts", "pairs", "word_lists", "token_ids")


@dataclass(frozen=True, slots=True)
class TaskTexts:
    """Rows of all texts that can be computed, and the errors of those that cannot."""

    tokens: Tokenized  # `truncated` is of all texts of the message
    failed: dict[int, RequestError]  # by the text's index in the message

    @property
    def batch(self) -> Batch:
        """The rows, for the workers."""
        return Batch(self.tokens.ids, self.tokens.lengths, self.tokens.type_ids)

    def without(self, gone: Mapping[int, RequestError]) -> TaskTexts:
        """Without the rows of these texts either, whose errors are `gone`."""
        if not gone:
            return self
        kept = np.flatnonzero(~np.isin(self.tokens.text_indexes, list(gone)))
        return TaskTexts(select_rows(self.tokens, kept), {**gone, **self.failed})


def parse_texts(model: HeadModel, sent: Sent, kinds: Collection[str] = ALL_KINDS) -> Inputs:
    """The texts. Raises INVALID_ARGUMENT where there are none, too many, or such as the task does not take."""
    if isinstance(sent.inputs, tasks_pb2.ChoiceLists):
        raise invalid(sent.path, "this task takes texts, not choices", "INVALID_INPUT_KIND")
    if isinstance(sent.inputs, Pairs):
        return sent.inputs
    kind = sent.inputs.WhichOneof("content")
    if kind is not None and kind not in kinds:
        raise invalid(f"{sent.path}.{kind}", f"this task takes {' or '.join(kinds)}", "INVALID_INPUT_KIND")
    return parse_inputs(sent.inputs, sent.path, model.limits.max_texts, sent.field)


def tokenize(
    model: HeadModel, inputs: Inputs, options: TokenizeOptions, sent: Sent, at: Callable[[int], str] | None = None
) -> TaskTexts:
    """Tokenizes the message's texts, or what was made of them; `at` says where a text is, if not at `sent.at`.

    Token ids are taken as they are, and all else gets special tokens.
    """
    at = at or sent.at
    tokens = model.tokenizer.tokenize(inputs, with_special_tokens(options, None, inputs))
    failed = {index: text_error(error, at(index), sent.options) for index, error in tokens.errors.items()}
    failed |= {index: not_utf8(at(index)) for index in sent.bad}
    return TaskTexts(tokens, {}).without(failed)
