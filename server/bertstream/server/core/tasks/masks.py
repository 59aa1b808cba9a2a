"""FillMasks: candidates for the place of each mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.errors import RequestError, invalid, too_large
from bertstream.server.core.sent import ChoiceLists, SentItems
from bertstream.server.core.tasks.base import HeadModel, Rows, Share, Task, pick
from bertstream.server.core.tasks.texts import TaskTexts, tokenize
from bertstream.server.core.tokenization import Ids, Inputs, Pairs, Texts, TokenizeOptions, Truncation, Words
from bertstream.workers.contract import Batch, HeadOptions, OutputOptions, Spans
from bertstream.workers.ragged import rows_of, starts_of

NEUTRAL_MASK = "[MASK]"
_CANDIDATE_BYTES = 9  # an id, a score, and a token of one byte, with the fields' tags


@dataclass(frozen=True, slots=True)
class MaskCandidates:
    """The k candidates for each mask, best first, mask by mask and text by text."""

    mask_counts: NDArray[np.integer]  # of each text
    mask_positions: NDArray[np.integer]  # of each mask
    candidate_counts: Sequence[int]  # of each mask
    token_ids: NDArray[np.generic]  # of each candidate
    tokens: Sequence[str]
    scores: NDArray[np.generic]
    sequences: Sequence[str]  # the text with each candidate, if asked for


@dataclass(frozen=True)
class FillMasks(Task[None]):
    """Makes a row for each text, and a span for each of its masks."""

    tokenize: TokenizeOptions
    mask: str
    mask_id: int
    top_k: int
    sequences: bool

    def prepare(self, sent: SentItems) -> Rows[None]:
        assert not isinstance(sent.inputs, ChoiceLists)
        inputs = with_own_mask(sent.inputs, self.mask)
        texts = tokenize(self.model, inputs, self.tokenize, sent)
        lengths = texts.tokens.lengths
        masks = np.flatnonzero(texts.tokens.ids == self.mask_id)
        counts = np.bincount(np.repeat(np.arange(lengths.size), lengths)[masks], minlength=lengths.size)
        sizes = self._least_bytes(lengths, counts)
        refused = self._refused(texts, counts, sizes, sent)
        of_all = np.zeros(texts.tokens.truncated.size, np.int64)
        of_all[texts.tokens.text_indexes] = sizes
        texts = texts.without(refused)
        return Rows(self._batch(texts), texts.tokens.text_indexes, texts.failed, texts.tokens.truncated, None, of_all)

    def _batch(self, texts: TaskTexts) -> Batch:
        tokens = texts.tokens
        masks = np.flatnonzero(tokens.ids == self.mask_id)
        rows = np.repeat(np.arange(tokens.lengths.size), tokens.lengths)[masks]
        counts = np.bincount(rows, minlength=tokens.lengths.size).astype(np.int32)
        places = (masks - starts_of(tokens.lengths)[rows]).astype(np.int32)
        return Batch(tokens.ids, tokens.lengths, tokens.type_ids, Spans(counts, places, np.ones_like(places)))

    def _least_bytes(self, lengths: NDArray[np.integer], counts: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the fewest bytes of each row's answer.

        A sequence has its other masks as they are spelled, and a byte or more for each token that it may not leave out.
        """
        masks = counts.astype(np.int64)
        others = np.maximum(masks - 1, 0)
        sequence = 2 + np.maximum(lengths - others - 4, 0) + others * len(self.mask)
        sizes: NDArray[np.int64] = masks * self.top_k * (_CANDIDATE_BYTES + sequence * self.sequences)
        return sizes

    def _refused(
        self, texts: TaskTexts, counts: NDArray[np.integer], sizes: NDArray[np.int64], sent: SentItems
    ) -> dict[int, RequestError]:
        """Return the errors of texts without a mask, and of those whose answer alone would be too large."""
        refused, limit = {}, self.model.limits.max_response_bytes
        for row in np.flatnonzero((counts == 0) | (sizes > limit)).tolist():
            text = int(texts.tokens.text_indexes[row])
            if counts[row]:
                about = f"{counts[row]} masks with {self.top_k} candidates each are too large an answer: lower top_k"
                refused[text] = too_large(sent.at(text), f"{about}, or set omit_sequences")
                continue
            cut = " in what is left of it: it was cut to the maximum length" if texts.tokens.truncated[text] else ""
            spelled = " or ".join(dict.fromkeys((self.mask, NEUTRAL_MASK)))
            about = f"it has no mask{cut}; write {spelled}"
            refused[text] = invalid(sent.at(text), about, "INVALID_MASK")
        return refused

    def answer(self, rows: Rows[None], share: Share) -> MaskCandidates:
        spans = rows.batch.spans
        assert spans is not None
        counts = spans.counts[share.rows]
        ids, scores = share.tensors["mask_candidates.ids"], share.tensors["mask_candidates.scores"]
        places = spans.starts[rows_of(starts_of(spans.counts)[share.rows], counts)]
        distinct, which = np.unique(ids, return_inverse=True)
        tokens = self._decode(Ids(distinct.astype(np.int32), np.ones(distinct.size, np.int32)), skip=False)
        sequences: Sequence[str] = ()
        if self.sequences:
            of_masks = np.repeat(share.rows, counts)
            sequences = self._sequences(rows.batch, of_masks, places, ids, np.repeat(counts, counts) == 1)
        return MaskCandidates(
            mask_counts=counts,
            mask_positions=places,
            candidate_counts=[ids.shape[1]] * places.size,
            token_ids=ids.ravel(),
            tokens=pick(tokens, which.ravel()),
            scores=scores.ravel(),
            sequences=sequences,
        )

    def _sequences(
        self,
        batch: Batch,
        rows: NDArray[np.int64],
        places: NDArray[np.integer],
        ids: NDArray[np.generic],
        single: NDArray[np.bool_],
    ) -> list[str]:
        """Return each mask's text with each candidate: rows, places, single [S], ids [S, k] -> [S * k].

        As in transformers, special tokens are left out only of texts with a single mask, since masks are special too.
        """
        written: list[str] = [""] * ids.size
        for skip in (True, False):
            some = np.flatnonzero(single == skip)
            if some.size:
                filled = self._filled(batch, rows[some], places[some], ids[some])
                at = (some[:, None] * ids.shape[1] + np.arange(ids.shape[1])).ravel()
                for i, text in zip(at.tolist(), self._decode(filled, skip=skip), strict=True):
                    written[i] = text
        return written

    def _filled(
        self, batch: Batch, rows: NDArray[np.int64], places: NDArray[np.integer], ids: NDArray[np.generic]
    ) -> Ids:
        """Return the ids of each mask's text with each candidate, without padding: [S], [S], [S, k] -> S * k lists."""
        copies = np.repeat(rows, ids.shape[1])
        lengths = batch.lengths[copies]
        tokens = batch.ids[rows_of(starts_of(batch.lengths)[copies], lengths)]
        tokens[starts_of(lengths) + np.repeat(places, ids.shape[1])] = ids.ravel()
        padding = self.model.description.special_tokens.get("pad", ("", -1))[1]
        kept = tokens != padding
        owners = np.repeat(np.arange(copies.size), lengths)
        return Ids(tokens[kept], np.bincount(owners[kept], minlength=copies.size).astype(np.int32))

    def _decode(self, ids: Ids, *, skip: bool) -> list[str]:
        return self.model.tokenizer.detokenize(ids, skip_special_tokens=skip).texts


def fill_masks(
    model: HeadModel,
    truncation: Truncation,
    priority: int,
    top_k: int,
    *,
    targets: tuple[int, ...] = (),
    sequences: bool = True,
) -> FillMasks:
    """Return the task that gives the best `top_k` candidates for each mask; the model has the head and a mask token.

    top_k: more than there are candidates means all.
    """
    mask, mask_id = model.description.special_tokens["mask"]
    top_k = min(top_k, len(targets) or model.description.vocabulary_size)
    options = OutputOptions(("mask_candidates",), head=HeadOptions("fill_mask", top_k=top_k, targets=targets))
    return FillMasks(model, options, priority, TokenizeOptions(truncation), mask, mask_id, top_k, sequences)


def with_own_mask(inputs: Inputs, mask: str) -> Inputs:
    """Put the checkpoint's own mask token in place of each [MASK]."""
    if mask == NEUTRAL_MASK:
        return inputs
    match inputs:
        case Texts(texts):
            return Texts([text.replace(NEUTRAL_MASK, mask) for text in texts])
        case Pairs(firsts, seconds):
            return Pairs(*([text.replace(NEUTRAL_MASK, mask) for text in texts] for texts in (firsts, seconds)))
        case Words(words, counts):
            return Words([word.replace(NEUTRAL_MASK, mask) for word in words], counts)
    return inputs
