"""ScoreTexts: the pseudo-log-likelihood of texts (Salazar et al. 2020, https://arxiv.org/abs/1910.14659)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from bertstream.server.core.tasks.base import HeadModel, Rows, Share, Task
from bertstream.server.core.tasks.masks import with_own_mask
from bertstream.server.core.tasks.sent import Sent
from bertstream.server.core.tasks.sums import segment_sums
from bertstream.server.core.tasks.texts import parse_texts, tokenize
from bertstream.server.core.tokenization import TokenizeOptions
from bertstream.server.protocols.bertstream_v1.validation.tasks import (
    effective_priority,
    parse_priority,
    parse_task_truncation,
    require_mask,
)
from bertstream.server.protocols.bertstream_v1.validation.tokenization import effective_truncation
from bertstream.v1 import tasks_pb2
from bertstream.workers.contract import Batch, HeadWish, Spans, Wishes
from bertstream.workers.ragged import rows_of, starts_of


@dataclass(frozen=True, slots=True)
class Scored:
    """The tokens that are scored, for all rows end to end: all but the special ones."""

    counts: NDArray[np.int64]  # [r]
    places: NDArray[np.int32]  # [S] within the row
    ids: NDArray[np.int32]  # [S]

    def slice(self, first: int, last: int) -> slice:
        """Those of the rows from `first` up to `last`."""
        start = int(self.counts[:first].sum())
        return slice(start, start + int(self.counts[first:last].sum()))


@dataclass(frozen=True)
class ScoreTexts(Task[Scored]):
    """A row for each text, which becomes a copy for each token that is scored, with that token masked."""

    tokenize: TokenizeOptions
    mask: str
    mask_id: int

    def prepare(self, sent: Sent) -> Rows[Scored]:
        inputs = with_own_mask(parse_texts(self.model, sent), self.mask)
        texts = tokenize(self.model, inputs, self.tokenize, sent)
        tokens = texts.tokens
        assert tokens.special_tokens_mask is not None
        at = np.flatnonzero(~tokens.special_tokens_mask.astype(np.bool_))
        rows = np.repeat(np.arange(tokens.lengths.size), tokens.lengths)[at]
        counts = np.bincount(rows, minlength=tokens.lengths.size).astype(np.int64)
        places = (at - starts_of(tokens.lengths)[rows]).astype(np.int32)
        scored = Scored(counts, places, tokens.ids[at])
        return Rows(texts.batch, tokens.text_indexes, texts.failed, tokens.truncated, scored, copies=counts)

    def expand(self, rows: Rows[Scored], first: int, last: int) -> Batch:
        scored, batch = rows.context, rows.batch
        which = scored.slice(first, last)
        places, original = scored.places[which], scored.ids[which]
        copies = np.repeat(np.arange(first, last), scored.counts[first:last])  # the row of each copy
        lengths = batch.lengths[copies]
        at = rows_of(starts_of(batch.lengths)[copies], lengths)
        ids = batch.ids[at]
        ids[starts_of(lengths) + places] = self.mask_id
        type_ids = None if batch.type_ids is None else batch.type_ids[at]
        one = np.ones(copies.size, np.int32)
        return Batch(ids, lengths, type_ids, Spans(one, places, one, original))

    def answer(self, rows: Rows[Scored], share: Share) -> Message:
        scored = rows.context
        which = rows_of(starts_of(scored.counts)[share.rows], scored.counts[share.rows])
        counts = scored.counts[share.rows]
        nothing = np.zeros(0, np.float32)  # where all texts of the share are empty, no worker had anything to do
        logs = share.tensors.get("token_log_probabilities", nothing).astype(np.float64)
        return tasks_pb2.TextScores(
            scores=segment_sums(logs, counts).tolist(),
            token_counts=counts.tolist(),
            token_ids=scored.ids[which].tolist(),
            log_probabilities=logs.tolist(),
        )


def parse_score_text(
    options: tasks_pb2.ScoreTextOptions, model: HeadModel, default_priority: int, path: str
) -> ScoreTexts:
    """Raises INVALID_ARGUMENT with the field's path, HEAD_NOT_AVAILABLE or HEAD_NOT_SUITABLE."""
    mask, mask_id = require_mask(model.description)
    truncation = parse_task_truncation(options.truncation, model.description, f"{path}.truncation")
    priority = parse_priority(options.priority, default_priority, f"{path}.priority")
    effective = tasks_pb2.ScoreTextOptions(
        model=model.name, truncation=effective_truncation(truncation), priority=effective_priority(priority)
    )
    wishes = Wishes(("token_log_probabilities",), head=HeadWish("fill_mask"))
    tokenize_options = TokenizeOptions(truncation, columns=frozenset({"special_tokens_mask"}))
    return ScoreTexts(model, wishes, priority, effective, tokenize_options, mask, mask_id)
