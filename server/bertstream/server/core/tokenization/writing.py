"""Turns ids into text one by one: each adds the text that has become certain; all of it is the decoder's text."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from tokenizers import Tokenizer

from bertstream.server.core.tokenization.cleaning import CleanUp

# These decoders write each token by itself, and only the first one of a text differently.
_LOCAL = ("WordPiece", "Metaspace", "Replace")


class Writer(Protocol):
    """Writes the text of one sequence of ids."""

    def push(self, token_id: int) -> str:
        """Return the text that is certain now, and was not before."""

    def finish(self) -> str:
        """Return the rest of the text, after the last token."""


class Writing:
    """Makes writers for one tokenizer, whose texts equal those that its own decoder writes for all ids at once.

    `clean_up` also cleans up the spaces, and holds back the text that this may still change.

    WordPiece, SentencePiece (Metaspace) and byte-level BPE are written as the tokens come; with any other decoder all
    of the text comes at the end. It must not be used by several threads at a time.
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special_tokens: bool, clean_up: bool = False) -> None:
        self._tokenizer = tokenizer
        self._clean_up = clean_up
        self._skip = skip_special_tokens
        self._special = {id for id, token in tokenizer.get_added_tokens_decoder().items() if token.special}
        self._kind = _kind(_decoder(tokenizer))
        self._first: dict[int, str] = {}
        self._later: dict[int, str] = {}
        self._bytes: dict[int, bytes] = {}
        self._anchor = next((id for id in range(tokenizer.get_vocab_size()) if self.shows(id)), 0)

    def writer(self) -> Writer:
        """Return a writer for one text, from its first token."""
        writer = _WRITERS[self._kind](self)
        return _CleanWriter(writer) if self._clean_up else writer

    def shows(self, token_id: int) -> bool:
        """Return whether the decoder writes this id; it leaves out skipped special tokens and ids without a name."""
        skipped = self._skip and token_id in self._special
        return not skipped and self._tokenizer.id_to_token(token_id) is not None

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text that the tokenizer's own decoder writes for these ids."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=self._skip))

    def first(self, token_id: int) -> str:
        """Return the token's text at the start of a text, for decoders that write each token by itself."""
        if token_id not in self._first:
            self._first[token_id] = self.decode([token_id])
        return self._first[token_id]

    def later(self, token_id: int) -> str:
        """Return the token's text behind any other token."""
        if token_id not in self._later:
            before = len(self.decode([self._anchor]))
            self._later[token_id] = self.decode([self._anchor, token_id])[before:]
        return self._later[token_id]

    def bytes_of(self, token_id: int) -> bytes:
        """Return the token's bytes, for byte-level decoders."""
        if token_id not in self._bytes:
            name = self._tokenizer.id_to_token(token_id) or ""
            known = all(character in _BYTES for character in name)
            self._bytes[token_id] = bytes(map(_BYTES.__getitem__, name)) if known else name.encode()
        return self._bytes[token_id]


class _LocalWriter:
    def __init__(self, writing: Writing) -> None:
        self._writing = writing
        self._begun = False

    def push(self, token_id: int) -> str:
        if not self._writing.shows(token_id):
            return ""
        text = self._writing.later(token_id) if self._begun else self._writing.first(token_id)
        self._begun = True
        return text

    def finish(self) -> str:
        return ""


class _ByteWriter:
    """Holds back an incomplete character, and writes U+FFFD for bytes that are no character, as the decoder does."""

    def __init__(self, writing: Writing) -> None:
        self._writing = writing
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        return self._decoder.decode(self._writing.bytes_of(token_id)) if self._writing.shows(token_id) else ""

    def finish(self) -> str:
        return self._decoder.decode(b"", final=True)


class _WholeWriter:
    def __init__(self, writing: Writing) -> None:
        self._writing = writing
        self._ids: list[int] = []

    def push(self, token_id: int) -> str:
        self._ids.append(token_id)
        return ""

    def finish(self) -> str:
        return self._writing.decode(self._ids)


class _CleanWriter:
    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._clean_up = CleanUp()

    def push(self, token_id: int) -> str:
        return self._clean_up.push(self._writer.push(token_id))

    def finish(self) -> str:
        return self._clean_up.push(self._writer.finish()) + self._clean_up.finish()


_WRITERS: Mapping[str, Callable[[Writing], Writer]] = {
    "bytes": _ByteWriter,
    "local": _LocalWriter,
    "whole": _WholeWriter,
}


def _decoder(tokenizer: Tokenizer) -> Mapping[str, Any] | None:
    """Return the decoder's part of tokenizer.json."""
    found: Any = tokenizer.decoder
    return None if found is None else json.loads(found.__getstate__())


def _kind(decoder: Mapping[str, Any] | None) -> str:
    match decoder:
        case None:  # tokens with spaces between
            return "local"
        case {"type": "ByteLevel"}:
            return "bytes"
        case {"type": "Sequence", "decoders": list(parts)}:
            return "local" if all(_kind(part) == "local" for part in parts) else "whole"
        case {"type": kind}:
            return "local" if kind in _LOCAL else "whole"
    return "whole"


def _byte_characters() -> dict[str, int]:
    """Return the byte for each character that stands for one in byte-level vocabularies, as introduced by GPT-2.

    A byte that is a visible character of Latin-1 stands for itself, the others follow from U+0100 on.
    """
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(0x100 + place): byte for place, byte in enumerate(others)}


_BYTES = _byte_characters()
