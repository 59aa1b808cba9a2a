"""Finds, by trying, where a tokenizer puts its special tokens, and the segments of its sequences."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain, islice

from tokenizers import Encoding, Tokenizer

SPECIAL = -1


class TokenizerError(Exception):
    """The tokenizer file cannot be read, or is not of a kind that BERT encoders have."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One special token, or all tokens of one sequence."""

    sequence: int  # 0 or 1 (the second of a pair), or SPECIAL
    type_id: int
    id: int = 0  # of the special token


@dataclass(frozen=True, slots=True)
class Template:
    """The pieces of a row, such as [CLS] 0 [SEP] 1 [SEP]."""

    pieces: tuple[Piece, ...]

    @property
    def special_ids(self) -> list[int]:
        """Return the special tokens' ids, in their order."""
        return [piece.id for piece in self.pieces if piece.sequence == SPECIAL]

    @property
    def has_segments(self) -> bool:
        """Return whether any type id is not 0."""
        return any(piece.type_id for piece in self.pieces)

    def without_segments(self) -> Template:
        """Return the same template with all type ids 0."""
        return Template(tuple(replace(piece, type_id=0) for piece in self.pieces))


@dataclass(frozen=True, slots=True)
class Templates:
    """The templates of a tokenizer, by whether they are for pairs and whether special tokens are added."""

    by_kind: dict[tuple[bool, bool], Template]

    @classmethod
    def of(cls, tokenizer: Tokenizer, type_vocabulary_size: int) -> Templates:
        """Find a tokenizer's templates and try them; raise TokenizerError where that is not possible.

        Where the model has fewer segments than the templates use (tokenizer files of models without segments are often
        copied from BERT's), all type ids are 0.
        """
        samples = _samples(tokenizer)
        kinds = [(pair, special) for pair in (False, True) for special in (False, True)]
        found = {(pair, special): _find(tokenizer, samples[0], pair, special) for pair, special in kinds}
        for (pair, special), template in found.items():
            for first in ("", *samples):  # "" shows the tokens that every row has
                _verify(tokenizer, template, (first, samples[-1]) if pair else (first,), special)
        segments = max((piece.type_id for template in found.values() for piece in template.pieces), default=0) + 1
        if segments > max(type_vocabulary_size, 1):
            found = {kind: template.without_segments() for kind, template in found.items()}
        return cls(found)

    def special_ids(self) -> set[int]:
        """Return all special tokens that any template adds."""
        return {id for template in self.by_kind.values() for id in template.special_ids}


def _samples(tokenizer: Tokenizer) -> list[str]:
    """Return one or two texts that have tokens; if need be, words of the vocabulary, whatever its script."""
    candidates = chain(["a", "Hello, world"], tokenizer.get_vocab())
    if found := list(islice((text for text in candidates if _has_tokens(tokenizer, text)), 2)):
        return found
    raise TokenizerError("the tokenizer finds no tokens in any text")


def _has_tokens(tokenizer: Tokenizer, text: str) -> bool:
    try:
        return len(_encode(tokenizer, (text,), special=False)) > 0
    except Exception:  # no way to spell it, as the Rust side says
        return False


def _encode(tokenizer: Tokenizer, texts: tuple[str, ...], special: bool) -> Encoding:
    return tokenizer.encode(texts[0], texts[1] if len(texts) > 1 else None, add_special_tokens=special)


def _find(tokenizer: Tokenizer, sample: str, pair: bool, special: bool) -> Template:
    encoding = _encode(tokenizer, (sample, sample) if pair else (sample,), special)
    pieces: list[Piece] = []
    for id, type_id, mask, sequence in zip(
        encoding.ids, encoding.type_ids, encoding.special_tokens_mask, encoding.sequence_ids, strict=True
    ):
        if mask:
            pieces.append(Piece(SPECIAL, type_id, id))
        elif (piece := Piece(sequence or 0, type_id)) not in pieces:
            pieces.append(piece)
    return Template(tuple(pieces))


def _verify(tokenizer: Tokenizer, template: Template, texts: tuple[str, ...], special: bool) -> None:
    sequences = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    ids: list[int] = []
    type_ids: list[int] = []
    for piece in template.pieces:
        part = [piece.id] if piece.sequence == SPECIAL else sequences[piece.sequence]
        ids += part
        type_ids += [piece.type_id] * len(part)
    expected = _encode(tokenizer, texts, special)
    if (ids, type_ids) != (expected.ids, expected.type_ids):
        raise TokenizerError("the tokenizer's post-processor does more than put special tokens around the texts")
