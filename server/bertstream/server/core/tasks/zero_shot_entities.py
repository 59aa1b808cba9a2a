"""ClassifyTokens by labels of the caller's: entities as a GLiNER model finds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.errors import RequestError, invalid
from bertstream.server.core.sent import SentItems
from bertstream.server.core.tasks.base import HeadModel, Rows, Share, Task, pick
from bertstream.server.core.tasks.entities import Entities
from bertstream.server.core.tasks.entity_choice import Candidates, choose
from bertstream.server.core.tasks.labelled_words import (
    LabelPrompt,
    SplitTexts,
    label_prompt,
    shortened,
    split,
    whole_words,
)
from bertstream.server.core.tasks.texts import tokenize
from bertstream.server.core.tokenization import OffsetUnit, Texts, TokenizeOptions, Truncation, Words, ragged
from bertstream.server.core.tokenization.offsets import convert_offsets
from bertstream.workers.contract import HeadName, HeadOptions, OutputOptions

HEAD: HeadName = "zero_shot_entities"
MOST_CANDIDATES = 1024  # of a row, the best by score
_LEAST_ROOM = 3  # tokens of a row beside the labels: two special ones and one of the text
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class WordContext:
    """The words of all texts, and which of them each row has."""

    texts: SplitTexts
    words: Ints  # [K] indexes among the words of all texts, row by row
    firsts: Ints  # [r] where each row's words begin in that


@dataclass(frozen=True)
class FindEntities(Task[WordContext]):
    """Finds spans of words that fit labels, which are put before each text."""

    kinds = ("texts", "word_lists")

    tokenize: TokenizeOptions  # of the text alone
    labels: tuple[str, ...]
    prompt: LabelPrompt
    most_words: int  # of a text that is cut
    nested: bool
    multi_label: bool
    offset_unit: OffsetUnit

    def prepare(self, sent: SentItems) -> Rows[WordContext]:
        assert isinstance(sent.inputs, Texts | Words)
        texts = split(sent.inputs)
        most = int(texts.counts.max(initial=0)) if self.tokenize.windows else self.most_words
        kept, firsts = texts.within(most, self.tokenize.truncation.side)
        found = tokenize(self.model, kept, self.tokenize, sent).without(self._too_long(texts, sent))
        words = whole_words(found.tokens, kept.counts)
        leading = len(self.model.tokenizer.leading_ids)
        return Rows(
            self.prompt.before(found.tokens, words, leading),
            found.tokens.text_indexes,
            found.failed,
            found.tokens.truncated | (kept.counts < texts.counts),
            WordContext(
                texts,
                words.words + np.repeat(firsts[found.tokens.text_indexes], words.counts),
                ragged.first_indexes(words.counts),
            ),
        )

    def answer(self, rows: Rows[WordContext], share: Share) -> Entities:
        context, texts = rows.context, rows.context.texts
        items, found = self._candidates(context, share)
        ends = np.searchsorted(items, np.arange(share.items.size + 1)).tolist()
        chosen = [
            first + choose(found.at(slice(first, last)), nested=self.nested, multi_label=self.multi_label)
            for first, last in pairwise(ends)
        ]
        found = found.at(np.concatenate(chosen))
        owners = ragged.owners(np.array([len(each) for each in chosen], np.int64))
        bounds = np.stack([texts.starts[found.starts], texts.ends[found.ends]], axis=1).astype(np.int32)
        sent = pick(texts.texts, share.items)
        offsets = convert_offsets(bounds, owners, sent, self.offset_unit)
        places = zip(owners.tolist(), *bounds.T.tolist(), strict=True)
        return Entities(
            entity_counts=np.bincount(owners, minlength=share.items.size),
            labels=pick(self.labels, found.labels),
            scores=found.scores,
            words=[sent[owner][start:end] for owner, start, end in places],
            starts=offsets[:, 0],
            ends=offsets[:, 1],
        )

    def _candidates(self, context: WordContext, share: Share) -> tuple[Ints, Candidates]:
        """Return the spans that may be entities, of the words of all texts, and the item of each, ascending."""
        counts, starts, ends, labels = (
            share.tensors[f"entity_spans.{name}"].astype(np.int64) for name in ("counts", "starts", "ends", "labels")
        )
        firsts = np.repeat(context.firsts[share.rows], counts)
        items = np.repeat(ragged.owners(share.row_counts), counts)
        scores = share.tensors["entity_spans.scores"].astype(np.float32)
        found = Candidates(context.words[firsts + starts], context.words[firsts + ends], labels, scores)
        if (share.row_counts == 1).all():
            return items, found
        kept = found.best()  # words are numbered over all texts
        return items[kept], found.at(kept)

    def _too_long(self, texts: SplitTexts, sent: SentItems) -> dict[int, RequestError]:
        if self.tokenize.windows or self.tokenize.truncation.strategy != "refuse":
            return {}
        about = f"words, more than the {self.most_words} that this model reads, and truncation is off"
        return {
            index: invalid(sent.at(index), f"has {texts.counts[index]} {about}", "INVALID_TEXT_LENGTH")
            for index in np.flatnonzero(texts.counts > self.most_words).tolist()
        }


def find_entities(
    model: HeadModel,
    truncation: Truncation,
    priority: int,
    labels: Sequence[str],
    *,
    path: str,
    threshold: float = 0.5,
    nested: bool = False,
    multi_label: bool = False,
    windows: bool = False,
    stride: int | None = None,
    offset_unit: OffsetUnit = "code_points",
) -> FindEntities:
    """Return the task that finds entities of these labels, whose path is given; the model has the head.

    truncation: its length is that of labels and text together, in a window too. stride: the tokens that windows share;
    None for a quarter of what they have of the text. Raises INVALID_ARGUMENT where the labels leave no room for a text.
    """
    own = model.description.zero_shot_entities
    assert own is not None
    prompt = label_prompt(model, labels, own, truncation.max_length - _LEAST_ROOM, path)
    text = shortened(truncation, prompt.ids.size)
    if windows:  # so that none has more words than a model was trained for
        text = replace(text, max_length=min(text.max_length, max(own.max_words, _LEAST_ROOM)))
    shared = stride if stride is not None else text.max_length // 4 if windows else 0
    head = HeadOptions(HEAD, top_k=MOST_CANDIDATES, labels=len(labels), threshold=threshold)
    return FindEntities(
        model,
        OutputOptions(("entity_spans",), head=head),
        priority,
        TokenizeOptions(text, windows=windows, stride=shared, columns=frozenset({"word_ids"})),
        tuple(labels),
        prompt,
        own.max_words,
        nested,
        multi_label,
        offset_unit,
    )
