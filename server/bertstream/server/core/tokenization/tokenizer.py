"""A served model's tokenizer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, normalizers

from bertstream.server.core.tokenization import ragged
from bertstream.server.core.tokenization.cleaning import clean_up
from bertstream.server.core.tokenization.columns import Vocabulary, lay_out
from bertstream.server.core.tokenization.offsets import convert_offsets
from bertstream.server.core.tokenization.reading import Need
from bertstream.server.core.tokenization.sequences import Finder, Sequences
from bertstream.server.core.tokenization.spelling import Spelling
from bertstream.server.core.tokenization.templates import SPECIAL, Templates, TokenizerError
from bertstream.server.core.tokenization.truncation import KeptTokens, plan_rows
from bertstream.server.core.tokenization.values import (
    Column,
    Detokenized,
    Ids,
    Inputs,
    OffsetUnit,
    Pairs,
    Texts,
    TokenizationError,
    Tokenized,
    TokenizeOptions,
    Words,
)
from bertstream.server.core.tokenization.writing import Writing

Errors = dict[int, TokenizationError]


Tokenizing = Callable[[int, int, float], None]  # told of texts, of the tokens they became, and of the seconds it took


def _tell_nobody(texts: int, tokens: int, seconds: float) -> None:
    return


class TextTokenizer:
    """Tokenizes whole batches as transformers' fast tokenizers do, for one model.

    Ids and all columns equal theirs but for one offset: with a byte-level tokenizer with add_prefix_space, transformers
    counts the space before a token as its own where truncation from the left has made that token the text's first.

    Words are tokenized as the file says. A byte-level tokenizer without add_prefix_space takes them for parts of one
    word, as transformers 5 does (version 4 refused); checkpoints trained on words set add_prefix_space in their file.

    It does not change after `load`, so any number of threads may use it at once. The Rust side works without the GIL.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        vocabulary_size: int,
        type_vocabulary_size: int,
        clean_up_spaces: bool = False,
        on_tokenized: Tokenizing = _tell_nobody,
    ) -> None:
        self._on_tokenized = on_tokenized
        # Both are state of the Rust object rather than of a call; texts are cut here, and there is no padding.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._vocabulary_size = vocabulary_size
        self._type_vocabulary_size = max(type_vocabulary_size, 1)
        self._finder = Finder(tokenizer)
        self._templates = Templates.of(tokenizer, type_vocabulary_size)
        special_ids = self._templates.special_ids()
        if beyond := [id for id in special_ids if id >= vocabulary_size]:
            raise TokenizerError(f"special token {beyond[0]} is outside the model's vocabulary of {vocabulary_size}")
        self.spelling = Spelling(tokenizer, _token_names(tokenizer, vocabulary_size))
        self._vocabulary = Vocabulary(self.spelling.names, special_ids)
        self._may_refuse_ids = len(self.spelling.names) > vocabulary_size
        self._clean_up_spaces = clean_up_spaces
        self._writings = {
            skip: Writing(tokenizer, skip_special_tokens=skip, clean_up=clean_up_spaces) for skip in (False, True)
        }

    @classmethod
    def load(
        cls,
        tokenizer_json: Path,
        *,
        vocabulary_size: int,
        type_vocabulary_size: int,
        lowercase: bool = False,
        clean_up_spaces: bool = False,
    ) -> TextTokenizer:
        """Read a tokenizer.json as `parse` does, or raise TokenizerError."""
        try:
            source = tokenizer_json.read_bytes()
        except OSError as error:
            raise TokenizerError(f"cannot read {tokenizer_json}: {error}") from error
        return cls.parse(
            source,
            str(tokenizer_json),
            vocabulary_size=vocabulary_size,
            type_vocabulary_size=type_vocabulary_size,
            lowercase=lowercase,
            clean_up_spaces=clean_up_spaces,
        )

    @classmethod
    def parse(
        cls,
        source: bytes,
        name: str,
        *,
        vocabulary_size: int,
        type_vocabulary_size: int,
        lowercase: bool = False,
        clean_up_spaces: bool = False,
        on_tokenized: Tokenizing = _tell_nobody,
    ) -> TextTokenizer:
        """Make a tokenizer from the content of a tokenizer.json, or raise TokenizerError, which says `name`.

        The sizes are the model's, which may have more ids than the tokenizer has names. `lowercase` is
        sentence-transformers' do_lower_case: as there, a lower-casing normalizer is put before the tokenizer's own, so
        that offsets stay those of the text as sent. `clean_up_spaces` is transformers' clean_up_tokenization_spaces,
        for texts made from ids. `on_tokenized` is told of each call of `tokenize`, in its thread.
        """
        try:
            tokenizer = Tokenizer.from_str(source.decode("utf-8"))
        except Exception as error:  # the Rust side raises plain Exception
            raise TokenizerError(f"cannot read {name}: {error}") from error
        if lowercase and not _lowercases(json.loads(source).get("normalizer")):
            own = [tokenizer.normalizer] if tokenizer.normalizer is not None else []
            tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *own])
        return cls(
            tokenizer,
            vocabulary_size=vocabulary_size,
            type_vocabulary_size=type_vocabulary_size,
            clean_up_spaces=clean_up_spaces,
            on_tokenized=on_tokenized,
        )

    @property
    def backend_tokenizer(self) -> Tokenizer:
        """The Rust tokenizer, which may have more ids than the model."""
        return self._tokenizer

    def tokenize(self, inputs: Inputs, options: TokenizeOptions, prompt: str = "") -> Tokenized:
        """Tokenize n texts; one that is wrong has an error, and the others have their rows.

        `prompt` is put before each text, or before the first of each pair; ValueError with words or ids.
        """
        started = time.perf_counter()
        found = self._tokenize(inputs, options, prompt)
        self._on_tokenized(len(inputs), found.ids.size, time.perf_counter() - started)
        return found

    def _tokenize(self, inputs: Inputs, options: TokenizeOptions, prompt: str) -> Tokenized:
        template = self._templates.by_kind[isinstance(inputs, Pairs), options.add_special_tokens]
        need = self._need(options, len(template.special_ids), isinstance(inputs, Pairs))
        sequences, errors = self._finder.find(inputs, prompt, _places_wanted(inputs, options, prompt), need)
        errors |= self._check(sequences, len(inputs))
        lengths = sequences.lengths.astype(np.int64).reshape(2 if isinstance(inputs, Pairs) else 1, len(inputs))
        rows, cut_errors = plan_rows(lengths, len(template.special_ids), options, _unread(sequences, lengths))
        errors = cut_errors | errors
        if not (options.allow_empty or template.special_ids):
            errors = _empty_texts(rows) | errors
        rows = rows.without(errors)
        truncated = np.zeros(len(inputs), np.bool_)
        if not options.windows:
            truncated[rows.texts] = (rows.lengths < lengths[:, rows.texts]).any(axis=0)
        sequences = _convert_offsets(sequences, inputs, options.offset_unit)
        found = lay_out(sequences, template, rows, truncated, errors, options.columns, self._vocabulary)
        return replace(found, skipped=rows.starts) if options.windows else found

    def detokenize(self, inputs: Ids, *, skip_special_tokens: bool) -> Detokenized:
        """Turn ids into texts as transformers' `decode` does; type ids do not matter."""
        errors = self._check(Sequences(inputs.ids, inputs.lengths), len(inputs))
        ids, ends = inputs.ids.tolist(), np.cumsum(inputs.lengths, dtype=np.int64).tolist()
        lists = [ids[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        good = [[] if index in errors else part for index, part in enumerate(lists)]
        texts = list(self._tokenizer.decode_batch(good, skip_special_tokens=skip_special_tokens))
        return Detokenized(list(map(clean_up, texts)) if self._clean_up_spaces else texts, errors)

    def ids_of(self, names: Sequence[str]) -> list[int | None]:
        """Return the ids of the tokens that are spelled just so; None where the model has no such token."""
        found = map(self._tokenizer.token_to_id, names)
        return [None if id is None or id >= self._vocabulary_size else id for id in found]

    @property
    def leading_ids(self) -> list[int]:
        """Return the ids of the special tokens before a text."""
        pieces = self._templates.by_kind[False, True].pieces
        return [piece.id for piece in takewhile(lambda piece: piece.sequence == SPECIAL, pieces)]

    def writing(self, *, skip_special_tokens: bool) -> Writing:
        """Return the means to turn ids into text one by one, for use by one thread."""
        return self._writings[skip_special_tokens]

    def _need(self, options: TokenizeOptions, special_tokens: int, pairs: bool) -> Need | None:
        """Return None where all tokens are needed: for windows, to number words, or where any may be refused."""
        truncation = options.truncation
        from_the_end = truncation.side == "left" and truncation.strategy != "refuse"
        if options.windows or (from_the_end and "word_ids" in options.columns) or self._may_refuse_ids:
            return None
        room = max(truncation.max_length - special_tokens, 0)
        halves = pairs and truncation.strategy == "longest_first"
        return Need(room + 1, "left" if from_the_end else "right", which_is_longer=halves and room % 2 == 1)

    def _check(self, sequences: Sequences, texts: int) -> Errors:
        """Return the errors of texts with ids that the model has no embedding for, whether sent or found."""
        errors: Errors = {}
        if sequences.type_ids is not None:
            for text, type_id in _outside(sequences.type_ids, self._type_vocabulary_size, sequences.lengths):
                message = f"token type id {type_id} is not in [0, {self._type_vocabulary_size})"
                errors[text] = TokenizationError("INVALID_TOKEN_TYPE_ID", message)
        for sequence, id in _outside(sequences.ids, self._vocabulary_size, sequences.lengths, sequences.starts):
            message = f"token id {id} is not in [0, {self._vocabulary_size})"
            errors[sequence % texts] = TokenizationError("INVALID_TOKEN_ID", message)
        return errors


def _outside(
    ids: NDArray[np.int32], size: int, lengths: NDArray[np.int32], starts: NDArray[np.int64] | None = None
) -> Iterable[tuple[int, int]]:
    """Yield (sequence, id) for the first id of each sequence outside [0, size); `starts` if not end to end."""
    if len(ids) == 0 or (ids.min() >= 0 and ids.max() < size):
        return ()
    bad = np.flatnonzero((ids < 0) | (ids >= size))
    starts = ragged.first_indexes(lengths) if starts is None else starts
    firsts = np.searchsorted(bad, starts)
    found = np.flatnonzero(np.searchsorted(bad, starts + lengths) > firsts)
    return zip(found.tolist(), ids[bad[firsts[found]]].tolist(), strict=True)


def _unread(sequences: Sequences, lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether each sequence has more tokens than were found: [w, n], as the lengths are."""
    if sequences.unread is None:
        return np.zeros(lengths.shape, np.bool_)
    return sequences.unread.reshape(lengths.shape)


def _places_wanted(inputs: Inputs, options: TokenizeOptions, prompt: str) -> bool:
    wanted: set[Column] = {"offsets", "word_ids"}
    if prompt:
        wanted.add("special_tokens_mask")  # places tell the prompt's tokens from the text's
    return not isinstance(inputs, Ids) and not wanted.isdisjoint(options.columns)


def _empty_texts(rows: KeptTokens) -> Errors:
    error = TokenizationError("INVALID_EMPTY_TEXT", "has no tokens, and no special tokens are added")
    return dict.fromkeys(rows.texts[rows.lengths.sum(axis=0) == 0].tolist(), error)


def _convert_offsets(sequences: Sequences, inputs: Inputs, unit: OffsetUnit) -> Sequences:
    places = sequences.places
    if places is None or unit == "code_points":
        return sequences
    of = ragged.owners(sequences.lengths)
    match inputs:
        case Words(words, counts):
            of = np.where(places.word_ids < 0, -1, ragged.first_indexes(counts)[of] + places.word_ids)
            converted = convert_offsets(places.offsets, of, words, unit)
        case Pairs(firsts, seconds):
            converted = convert_offsets(places.offsets, of, [*firsts, *seconds], unit)
        case Texts(texts):
            converted = convert_offsets(places.offsets, of, texts, unit)
        case Ids():
            return sequences
    return replace(sequences, places=replace(places, offsets=converted))


def _token_names(tokenizer: Tokenizer, vocabulary_size: int) -> list[str]:
    vocabulary = tokenizer.get_vocab()
    names = [""] * max(vocabulary_size, max(vocabulary.values()) + 1)
    for name, id in vocabulary.items():
        names[id] = name
    return names


def _lowercases(normalizer: dict[str, object] | None) -> bool:
    match normalizer:
        case {"type": "Lowercase"} | {"type": "BertNormalizer", "lowercase": True}:
            return True
        case {"type": "Sequence", "normalizers": list(parts)}:
            return any(map(_lowercases, parts))
    return False
