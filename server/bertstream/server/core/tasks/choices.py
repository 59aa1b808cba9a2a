"""ChooseAnswers: how probable each choice of a prompt is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.errors import RequestError, invalid, not_utf8, too_large
from bertstream.server.core.selection import select_rows
from bertstream.server.core.sent import ChoiceLists, SentItems
from bertstream.server.core.tasks.base import Rows, Share, Task, pick
from bertstream.server.core.tasks.sums import segment_softmax
from bertstream.server.core.tasks.texts import tokenize
from bertstream.server.core.tokenization import Pairs, TokenizeOptions
from bertstream.workers.contract import Batch

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Choices:
    """The probability of each choice, prompt by prompt."""

    choice_counts: NDArray[np.int64]
    probabilities: NDArray[np.float64]


@dataclass(frozen=True)
class ChooseAnswers(Task[None]):
    """Makes a row for each pair of prompt and choice; the probabilities of a prompt's choices add up to 1."""

    kinds = ("choices",)

    tokenize: TokenizeOptions

    def prepare(self, sent: SentItems) -> Rows[None]:
        pairs, owners, counts = self._pairs(sent)
        of_pairs = replace(sent, bad=())
        texts = tokenize(
            self.model,
            pairs,
            self.tokenize,
            of_pairs,
            at=lambda row, _: sent.at(int(owners[row])),
            names=("prompt", "choice"),
        )
        errors = {int(owners[row]): error for row, error in texts.failed.items()}
        failed = errors | self._refused(sent, counts) | {i: not_utf8(sent.at(i)) for i in sent.bad}
        kept = select_rows(texts.tokens, np.flatnonzero(~np.isin(owners[texts.tokens.text_indexes], list(failed))))
        truncated = np.bincount(owners[kept.text_indexes], kept.truncated[kept.text_indexes], counts.size) > 0
        batch = Batch(kept.ids, kept.lengths, kept.type_ids)
        return Rows(batch, owners[kept.text_indexes].astype(np.int32), failed, truncated, None)

    def _pairs(self, sent: SentItems) -> tuple[Pairs, Counts, Counts]:
        """Return the pairs, the prompt of each, and each prompt's number of choices; raise INVALID_ARGUMENT."""
        lists, path = sent.inputs, sent.path
        assert isinstance(lists, ChoiceLists)
        counts = lists.counts
        if not counts.size:
            raise invalid(f"{path}.choice_counts", "the list is empty", "INVALID_EMPTY_LIST")
        if counts.size != len(lists.prompts):
            about = f"{counts.size} counts for {len(lists.prompts)} prompts"
            raise invalid(f"{path}.choice_counts", about, "INVALID_LENGTHS")
        if (counts < 0).any() or int(counts.sum()) != len(lists.choices):
            raise invalid(f"{path}.choice_counts", "they must add up to the number of choices", "INVALID_LENGTHS")
        most = self.model.limits.max_texts
        owners = np.repeat(np.arange(counts.size), counts)
        kept = np.flatnonzero(counts[owners] <= most)  # a prompt with more choices fails alone
        if max(kept.size, counts.size) > most:
            raise too_large(f"{path}.choices", f"{len(lists.choices)} choices; the limit of one message is {most}")
        prompts = list(lists.prompts)
        return Pairs(pick(prompts, owners[kept]), pick(lists.choices, kept)), owners[kept], counts

    def _refused(self, sent: SentItems, counts: Counts) -> dict[int, RequestError]:
        """Return the errors of prompts without choices, and of those with too many."""
        refused, most = dict[int, RequestError](), self.model.limits.max_texts
        for i in np.flatnonzero((counts == 0) | (counts > most)).tolist():
            path = f"{sent.path}.choice_counts[{i}]"
            none = invalid(path, "it must be at least 1", "INVALID_EMPTY_LIST")
            refused[i] = too_large(path, f"{counts[i]} choices; the limit is {most}") if counts[i] else none
        return refused

    def answer(self, rows: Rows[None], share: Share) -> Choices:
        logits = share.tensors["label_scores"][:, 0].astype(np.float64)
        probabilities = segment_softmax(logits, share.row_counts)
        return Choices(share.row_counts, probabilities)
