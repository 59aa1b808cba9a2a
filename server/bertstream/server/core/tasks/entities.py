"""ClassifyTokens: labels of tokens, and the entities that they make up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.errors import invalid
from bertstream.server.core.sent import ChoiceLists, SentItems
from bertstream.server.core.tasks.base import Rows, Share, Task, pick
from bertstream.server.core.tasks.entities_groups import Aggregation, FoundEntities, Tags, find_entities, longest
from bertstream.server.core.tasks.entities_windows import Windows
from bertstream.server.core.tasks.entities_words import Ints, RealTokens, Sentences, Speller, real_tokens
from bertstream.server.core.tasks.texts import tokenize
from bertstream.server.core.tokenization import (
    Column,
    Ids,
    Inputs,
    OffsetUnit,
    Texts,
    Tokenized,
    TokenizeOptions,
    Words,
    ragged,
)
from bertstream.server.core.tokenization.offsets import convert_offsets

_BY_WORDS = ("first", "average", "max")
_COLUMNS: frozenset[Column] = frozenset({"offsets", "special_tokens_mask"})
_COLUMNS_OF_WORDS: frozenset[Column] = _COLUMNS | {"word_ids"}
_TOKEN_BYTES = 11  # the fewest bytes of a token in an answer: label, score, word, start, end, index


@dataclass(frozen=True, slots=True)
class EntityContext:
    """The tokens that get labels, and the sentences that they are in."""

    real: RealTokens
    sentences: Sentences | None  # None for token ids


@dataclass(frozen=True, slots=True)
class Entities:
    """Entities, or tokens with labels, in their order, text by text."""

    entity_counts: NDArray[np.integer]  # of each text
    labels: Sequence[str]
    scores: NDArray[np.float32]
    words: Sequence[str]
    starts: NDArray[np.int32] | Sequence[int] = ()  # in the unit asked for; empty for token ids
    ends: NDArray[np.int32] | Sequence[int] = ()
    token_indexes: NDArray[np.integer] | Sequence[int] = ()  # where there is no aggregation


@dataclass(frozen=True)
class ClassifyTokens(Task[EntityContext]):
    """Finds entities, or labels each token."""

    kinds = ("texts", "word_lists", "token_ids")

    tokenize: TokenizeOptions
    aggregation: Aggregation
    offset_unit: OffsetUnit
    tags: Tags
    names: tuple[str, ...]  # [L]: the name in the answer for tokens, or entities, of each label
    kept: NDArray[np.bool_]  # [L]: labels that are not ignored

    def prepare(self, sent: SentItems) -> Rows[EntityContext]:
        inputs = sent.inputs
        assert not isinstance(inputs, ChoiceLists)
        if isinstance(inputs, Ids):
            self._refuse_for_ids(sent.field)
        sentences = _sentences(inputs)
        options = TokenizeOptions(
            self.tokenize.truncation,
            windows=self.tokenize.windows,
            stride=self.tokenize.stride,
            columns=_COLUMNS_OF_WORDS if isinstance(inputs, Words) else _COLUMNS,
        )
        found = tokenize(self.model, inputs, options, sent)
        by_words = self.aggregation in _BY_WORDS
        real = real_tokens(found.tokens, sentences, self.model.tokenizer.spelling, self._unknown_id, by_words)
        return Rows(
            found.batch,
            found.tokens.text_indexes,
            found.failed,
            found.tokens.truncated,
            EntityContext(real, sentences),
            self._least_bytes(real, found.tokens),
        )

    def answer(self, rows: Rows[EntityContext], share: Share) -> Entities:
        real = rows.context.real.of_rows(share.rows)
        windows = Windows.of(real, np.repeat(np.arange(share.items.size), share.row_counts))
        found = self._find(windows, rows.batch.lengths[share.rows], share)
        real, items = windows.whole, windows.whole.rows[found.firsts]
        sentences = rows.context.sentences
        texts = None if sentences is None else pick(sentences.texts, share.items)
        spell = Speller(self.model.tokenizer.spelling, self._unknown_id, real, texts)
        return Entities(
            entity_counts=np.bincount(items, minlength=share.items.size),
            labels=pick(self.names, found.labels),
            scores=found.scores,
            words=list(self._words(spell, found)),
            token_indexes=real.places[found.firsts] if self.aggregation == "none" else (),
            **self._offsets(real, found, texts),
        )

    def _offsets(
        self, real: RealTokens, found: FoundEntities, texts: Sequence[str] | None
    ) -> dict[str, NDArray[np.int32]]:
        """Return where the entities start and end, or nothing where there are no texts to count in."""
        if texts is None or real.starts is None or real.ends is None:
            return {}
        bounds = np.stack([real.starts[found.firsts], real.ends[found.lasts - 1]], axis=1)
        offsets = convert_offsets(bounds.astype(np.int32), real.rows[found.firsts], texts, self.offset_unit)
        return {"starts": offsets[:, 0], "ends": offsets[:, 1]}

    def _words(self, spell: Speller, found: FoundEntities) -> Iterator[str]:
        real = spell.real
        for first, last in zip(found.firsts.tolist(), found.lasts.tolist(), strict=True):
            item = int(real.rows[first])
            if self.aggregation == "none":
                yield spell.tokens(item, first, last)[0]
            elif self.aggregation == "simple":
                yield spell.text(item, first, last)
            else:  # decoded twice, as transformers does
                words = [first, *(first + 1 + np.flatnonzero(real.begins[first + 1 : last])).tolist(), last]
                yield spell.spelling.join([spell.text(item, *word) for word in pairwise(words)])

    def _least_bytes(self, real: RealTokens, tokens: Tokenized) -> Ints | None:
        """Return the fewest bytes of each item's answer, where every token is in it: [n]."""
        if self.aggregation != "none" or not self.kept.all():
            return None
        texts = tokens.text_indexes[real.rows]
        counts = np.bincount(texts, minlength=tokens.truncated.size)
        if self.tokenize.windows:  # windows share tokens
            counts[:] = 0
            np.maximum.at(counts, texts, real.indexes + 1)
        return _TOKEN_BYTES * counts

    @property
    def _unknown_id(self) -> int:
        return self.model.description.special_tokens.get("unk", ("", -1))[1]

    def _refuse_for_ids(self, path: str) -> None:
        if self.tokenize.windows:
            raise invalid(path, "windows are cut of texts and words only", "INVALID_COMBINATION")
        if self.aggregation in _BY_WORDS:
            about = f"which token ids make up a word is not known, as aggregation by {self.aggregation.upper()} needs"
            raise invalid(path, about, "INVALID_COMBINATION")

    def _find(self, windows: Windows, lengths: NDArray[np.int32], share: Share) -> FoundEntities:
        """Return all entities but the ignored ones, merged where several windows found them."""
        real = windows.rows
        at = ragged.first_indexes(lengths)[real.rows] + real.places
        scores = share.tensors["token_label_scores"].astype(np.float32, copy=False)[at]

        def find(tokens: Ints, begins: NDArray[np.bool_], owners: Ints) -> FoundEntities:
            return find_entities(scores[tokens], begins, owners, self.aggregation, self.tags)

        whole = windows.whole
        are_cut = (share.row_counts > 1).any()
        if not are_cut or self.aggregation == "none" or whole.starts is None or whole.ends is None:
            found = windows.read_whole(find)
            return found.at(self.kept[found.labels])
        found = windows.read(find)
        return longest(found.at(self.kept[found.labels]), whole.starts, whole.ends)


def _sentences(inputs: Inputs) -> Sentences | None:
    match inputs:
        case Texts(texts):
            return Sentences(texts)
        case Words(words, counts):
            return Sentences((), words, counts)
    return None
