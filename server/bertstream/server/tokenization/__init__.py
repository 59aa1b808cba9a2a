"""Texts to columns of token ids and back, a whole batch at a time; synchronous, and safe to call from many threads."""

from bertstream.server.tokenization.spelling import Spelling
from bertstream.server.tokenization.templates import TokenizerError
from bertstream.server.tokenization.tokenizer import TextTokenizer
from bertstream.server.tokenization.values import (
    Column,
    Detokenized,
    Ids,
    Inputs,
    OffsetUnit,
    Pairs,
    Reason,
    Side,
    Strategy,
    Texts,
    TokenizationError,
    Tokenized,
    TokenizeOptions,
    Truncation,
    Words,
)
from bertstream.server.tokenization.writing import Writer, Writing

__all__ = [
    "Column",
    "Detokenized",
    "Ids",
    "Inputs",
    "OffsetUnit",
    "Pairs",
    "Reason",
    "Side",
    "Spelling",
    "Strategy",
    "TextTokenizer",
    "Texts",
    "TokenizationError",
    "TokenizeOptions",
    "Tokenized",
    "TokenizerError",
    "Truncation",
    "Words",
    "Writer",
    "Writing",
]
