"""ClassifyTokens: labels of tokens, and the entities that they make up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.errors import invalid
from bertstream.server.core.tasks.base import HeadModel, Rows, Share, Task, pick
from bertstream.server.core.tasks.entities_groups import Aggregation, Entities, Tags, find_entities, longest
from bertstream.server.core.tasks.entities_windows import Windows
from bertstream.server.core.tasks.entities_words import Ints, RealTokens, Sentences, Speller, real_tokens
from bertstream.server.core.tasks.sent import Sent
from bertstream.server.core.tasks.texts import parse_texts, tokenize
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
from bertstream.server.protocols.bertstream_v1.validation.names import OFFSET_UNITS, name_of, value_of
from bertstream.server.protocols.bertstream_v1.validation.tasks import (
    effective_priority,
    parse_count,
    parse_priority,
    parse_task_truncation,
    require_head,
)
from bertstream.server.protocols.bertstream_v1.validation.tokenization import effective_truncation
from bertstream.v1 import tasks_pb2
from bertstream.workers.contract import HeadWish, Wishes

AGGREGATIONS: Mapping[int, Aggregation] = {
    tasks_pb2.AGGREGATION_STRATEGY_UNSPECIFIED: "simple",
    tasks_pb2.AGGREGATION_STRATEGY_NONE: "none",
    tasks_pb2.AGGREGATION_STRATEGY_SIMPLE: "simple",
    tasks_pb2.AGGREGATION_STRATEGY_FIRST: "first",
    tasks_pb2.AGGREGATION_STRATEGY_AVERAGE: "average",
    tasks_pb2.AGGREGATION_STRATEGY_MAX: "max",
}
_BY_WORDS = ("first", "average", "max")
_KINDS = ("texts", "word_lists", "token_ids")
_COLUMNS: frozenset[Column] = frozenset({"offsets", "special_tokens_mask"})
_COLUMNS_OF_WORDS: frozenset[Column] = _COLUMNS | {"word_ids"}
_TOKEN_BYTES = 11  # that a token has at least in an answer: label, score, word, start, end, index


@dataclass(frozen=True, slots=True)
class EntityContext:
    """The tokens that get labels, and what they are tokens of."""

    real: RealTokens
    sentences: Sentences | None  # None for token ids


@dataclass(frozen=True)
class ClassifyTokens(Task[EntityContext]):
    """Finds entities, or labels each token."""

    effective: tasks_pb2.ClassifyTokenOptions
    tokenize: TokenizeOptions
    aggregation: Aggregation
    offset_unit: OffsetUnit
    tags: Tags
    names: tuple[str, ...]  # [L]: what tokens, or entities, of each label are called
    kept: NDArray[np.bool_]  # [L]: labels that are not ignored

    def prepare(self, sent: Sent) -> Rows[EntityContext]:
        inputs = parse_texts(self.model, sent, _KINDS)
        if isinstance(inputs, Ids):
            self._refuse_for_ids(f"{sent.path}.token_ids")
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

    def answer(self, rows: Rows[EntityContext], share: Share) -> tasks_pb2.Entities:
        real = rows.context.real.of_rows(share.rows)
        windows = Windows.of(real, np.repeat(np.arange(share.items.size), share.row_counts))
        found = self._find(windows, rows.batch.lengths[share.rows], share)
        real, items = windows.whole, windows.whole.rows[found.firsts]
        message = tasks_pb2.Entities(
            entity_counts=np.bincount(items, minlength=share.items.size).tolist(),
            labels=pick(self.names, found.labels),
            scores=found.scores.tolist(),
        )
        sentences = rows.context.sentences
        texts = None if sentences is None else pick(sentences.texts, share.items)
        spell = Speller(self.model.tokenizer.spelling, self._unknown_id, real, texts)
        message.words.extend(self._words(spell, found))
        if texts is not None and real.starts is not None and real.ends is not None:
            bounds = np.stack([real.starts[found.firsts], real.ends[found.lasts - 1]], axis=1)
            offsets = convert_offsets(bounds.astype(np.int32), items, texts, self.offset_unit)
            message.starts.extend(offsets[:, 0].tolist())
            message.ends.extend(offsets[:, 1].tolist())
        if self.aggregation == "none":
            message.token_indexes.extend(real.places[found.firsts].tolist())
        return message

    def _words(self, spell: Speller, found: Entities) -> Iterator[str]:
        real = spell.real
        for first, last in zip(found.firsts.tolist(), found.lasts.tolist(), strict=True):
            item = int(real.rows[first])
            if self.aggregation == "none":
                yield spell.tokens(item, first, last)[0]
            elif self.aggregation == "simple":
                yield spell.text(item, first, last)
            else:  # decoded twice, as transformers does it
                words = [first, *(first + 1 + np.flatnonzero(real.begins[first + 1 : last])).tolist(), last]
                yield spell.spelling.join([spell.text(item, *word) for word in pairwise(words)])

    def _least_bytes(self, real: RealTokens, tokens: Tokenized) -> Ints | None:
        """Of each item's answer, where every token is in it. [n]"""
        if self.aggregation != "none" or not self.kept.all():
            return None
        texts = tokens.text_indexes[real.rows]
        counts = np.bincount(texts, minlength=tokens.truncated.size)
        if self.tokenize.windows:  # which share tokens
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

    def _find(self, windows: Windows, lengths: NDArray[np.int32], share: Share) -> Entities:
        """All entities but the ignored ones, merged where several windows found them."""
        real = windows.rows
        at = ragged.first_indexes(lengths)[real.rows] + real.places
        scores = share.tensors["token_label_scores"].astype(np.float32, copy=False)[at]

        def find(tokens: Ints, begins: NDArray[np.bool_], owners: Ints) -> Entities:
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


def parse_classify_tokens(
    options: tasks_pb2.ClassifyTokenOptions, model: HeadModel, default_priority: int, path: str = "options"
) -> ClassifyTokens:
    """Raises INVALID_ARGUMENT with the field's path, or HEAD_NOT_AVAILABLE."""
    require_head(model.description, "token_classification")
    truncation = parse_task_truncation(options.truncation, model.description, f"{path}.truncation")
    aggregation = name_of(AGGREGATIONS, options.aggregation, f"{path}.aggregation")
    stride = _stride(options, truncation.max_length, path)
    if options.keep_all_labels and options.ignored_labels:
        raise invalid(f"{path}.keep_all_labels", "there are ignored_labels too", "INVALID_COMBINATION")
    ignored = [] if options.keep_all_labels else list(options.ignored_labels) or ["O"]
    unit = name_of(OFFSET_UNITS, options.offset_unit, f"{path}.offset_unit")
    priority = parse_priority(options.priority, default_priority, f"{path}.priority")
    labels = model.description.labels
    tags = Tags.of(labels)
    names = labels if aggregation == "none" else tags.groups
    effective = tasks_pb2.ClassifyTokenOptions(
        model=model.name,
        truncation=effective_truncation(truncation),
        priority=effective_priority(priority),
        aggregation=value_of(AGGREGATIONS, aggregation),
        ignored_labels=ignored,
        keep_all_labels=options.keep_all_labels,
        windows=options.windows,
        stride=stride,
        offset_unit=value_of(OFFSET_UNITS, unit),
    )
    return ClassifyTokens(
        model,
        Wishes(("token_label_scores",), head=HeadWish("token_classification")),
        priority,
        effective,
        TokenizeOptions(truncation, windows=options.windows, stride=stride),
        aggregation,
        unit,
        tags,
        names,
        np.array([name not in ignored for name in names], np.bool_),
    )


def _stride(options: tasks_pb2.ClassifyTokenOptions, max_length: int, path: str) -> int:
    if not options.windows:
        if options.stride:
            raise invalid(f"{path}.stride", "it means something only with windows", "INVALID_COMBINATION")
        return 0
    return parse_count(options.stride, max_length // 4, max_length - 1, f"{path}.stride")
