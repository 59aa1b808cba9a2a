"""Finds where a long text may be cut, so that its parts, tokenized one by one, have the tokens of the whole.

That is known for the tokenizers of BERT encoders, from how each of their parts works. Any other gets whole texts.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from bertstream.server.core.tokenization import cancelling

# This is put before each part but the first, since some tokenizers mark the start of a text.
LEAD = "a"
# Letters and digits that no tokenizer joins with a space or punctuation beside them. There are many more, but these are
# enough to find a cut in any prose, and a cut that is not found costs only time.
_PLAIN = (
    "0-9A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0391-\u03a1\u03a3-\u03c9\u0410-\u044f\u05d0-\u05ea\u0621-\u063a"
    "\u0641-\u064a\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fff\uac00-\ud7a3"
)
_HAN = "\u4e00-\u9fff"
_SPACES = " \t\n"
_PUNCTUATION = ",.;:!?()/=+*#%&|"
_BERT = "BertPreTokenizer"  # splits at every space and punctuation character, whatever is beside it
_BACKWARDS = 1 << 10  # characters searched at a time, to begin with
_SEARCHED = 1 << 16  # characters searched at most: some milliseconds, in which no other thread runs
# These normalizers change each character, or each run of marks behind a letter, by itself.
_LOCAL_NORMALIZERS = ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Strip", "Nmt", "Precompiled")


@dataclass(frozen=True, slots=True)
class Cuts:
    """The places where texts may be cut for one tokenizer, which has tokens for any text."""

    places: re.Pattern[str]  # matches an empty string at each place
    lead_tokens: int  # the number of tokens of LEAD

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Cuts | None:
        """Find the tokenizer's places, or None where they are not known or it cannot spell some texts."""
        normalizer, pre_tokenizer = _parts(tokenizer.normalizer), _parts(tokenizer.pre_tokenizer)
        added = list(tokenizer.get_added_tokens_decoder().values())
        candidates = _candidates(tokenizer, normalizer, pre_tokenizer)
        if any(
            each.content[-1:].isalnum() for each in added
        ):  # the text behind such a token is taken for the start of a text
            candidates = "".join(each for each in candidates if not _marks_start(each, normalizer, pre_tokenizer))
        lead_tokens = _lead_tokens(tokenizer)
        if not (candidates and lead_tokens and _spells_all(tokenizer)) or any(map(_reaches_out, added)):
            return None
        taken = _characters(each.content for each in added)
        if any(map(str.isspace, taken)):
            taken |= set(_SPACES)
        allowed = re.escape("".join(each for each in candidates if each not in taken))
        beside = _PLAIN
        is_bert = _BERT in map(_type, pre_tokenizer)
        if is_bert and not any(each.lstrip or each.rstrip for each in added):  # such tokens include spaces beside them
            beside += allowed
        between = [f"(?<=[{beside}])(?=[{allowed}][{beside}])"] if allowed else []
        if is_bert and _splits_han(normalizer) and not any(map(re.compile(f"[{_HAN}]").match, taken)):
            between.append(f"(?<=[{_HAN}])(?=[{_HAN}])")
        return cls(re.compile("|".join(between)), lead_tokens) if between else None

    def after(self, text: str, at: int) -> int:
        """Return the first cut at `at` or behind it, or the end of the text."""
        for start in range(at, len(text), _SEARCHED):
            cancelling.check()
            # A cut is found by one character before it and two behind it.
            if found := self.places.search(text, start, start + _SEARCHED + 2):
                return found.start()
        return len(text)

    def before(self, text: str, at: int) -> int:
        """Return the last cut at `at` or before it, or the start of the text."""
        width, stop = _BACKWARDS, at + 1
        while stop > 0:
            cancelling.check()
            start = max(stop - width, 0)
            found = [each.start() for each in self.places.finditer(text, start, stop + 1)]
            if inside := [each for each in found if 0 < each <= at]:
                return inside[-1]
            width, stop = min(2 * width, _SEARCHED), start
        return 0


def _type(part: Mapping[str, Any]) -> str:
    return str(part["type"])


def _parts(part: Any) -> list[Mapping[str, Any]]:
    """Return a normalizer or pre-tokenizer as the list of its parts, as tokenizer.json has them."""
    return [] if part is None else _flat(json.loads(part.__getstate__()))


def _flat(part: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    inner = part.get("normalizers" if "normalizers" in part else "pretokenizers")
    return [part] if inner is None else [each for one in inner for each in _flat(one)]


def _candidates(
    tokenizer: Tokenizer, normalizer: list[Mapping[str, Any]], pre_tokenizer: list[Mapping[str, Any]]
) -> str:
    """Return the characters before which, between plain ones, a new word always begins, so a text may be cut there."""
    is_bert = all(_type(each) in ("BertNormalizer", "Lowercase") for each in normalizer)
    match tokenizer.model, list(map(_type, pre_tokenizer)):
        case models.WordPiece(), ["BertPreTokenizer"] if is_bert:
            return _SPACES + _PUNCTUATION
        case models.BPE() as bpe, ["ByteLevel"] if not normalizer:
            splits = pre_tokenizer[0].get("use_regex", True) and not bpe.dropout
            return _SPACES + _PUNCTUATION if splits else ""
        case models.Unigram(), ["Metaspace"] | ["WhitespaceSplit", "Metaspace"] if all(map(_is_local, normalizer)):
            return " " if pre_tokenizer[-1].get("split", True) else ""
    return ""


def _is_local(normalizer: Mapping[str, Any]) -> bool:
    """Return whether the normalizer never looks from a letter across a single space."""
    if _type(normalizer) != "Replace":
        return _type(normalizer) in _LOCAL_NORMALIZERS
    match normalizer["pattern"]:
        case {"String": str(text)}:
            return " " not in text or (text.isspace() and len(text) > 1)
        case {"Regex": " {2,}"}:
            return True
    return False


def _marks_start(before: str, normalizer: list[Mapping[str, Any]], pre_tokenizer: list[Mapping[str, Any]]) -> bool:
    """Return whether text that begins with this character has other tokens at the start than elsewhere."""
    strips = any(_type(each) == "Strip" and each["strip_left"] for each in normalizer)
    adds_space = any(_type(each) == "ByteLevel" and each["add_prefix_space"] for each in pre_tokenizer)
    return strips or (adds_space and before != " ")


def _splits_han(normalizer: list[Mapping[str, Any]]) -> bool:
    return any(_type(each) == "BertNormalizer" and each["handle_chinese_chars"] for each in normalizer)


def _lead_tokens(tokenizer: Tokenizer) -> int:
    """Return how many tokens LEAD always has as a word of its own; 0 where the text behind it changes that."""
    alone, before = (_ids(tokenizer, text) for text in (LEAD, f"{LEAD} {LEAD}"))
    return len(alone) if before[: len(alone)] == alone else 0


def _spells_all(tokenizer: Tokenizer) -> bool:
    """Return whether any text can be tokenized, and no word is left without tokens."""
    if isinstance(tokenizer.model, models.BPE):
        return all(tokenizer.token_to_id(each) is not None for each in pre_tokenizers.ByteLevel.alphabet())
    return bool(_ids(tokenizer, "\ua66e"))  # a letter that no vocabulary has


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    try:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)
    except Exception:  # the Rust side has no way to spell it
        return []


def _reaches_out(token: AddedToken) -> bool:
    """Return whether an added token is LEAD, or includes the spaces behind a letter."""
    text = unicodedata.normalize("NFKC", token.content)
    return text.strip().casefold() == LEAD or (token.rstrip and not (text.isascii() and not text[-1:].isalnum()))


def _characters(texts: Iterable[str]) -> set[str]:
    """Return all characters of the texts, in every form in which a normalizer may write them."""
    joined = "".join(texts)
    return {*joined, *unicodedata.normalize("NFKC", joined), *unicodedata.normalize("NFKD", joined)}
