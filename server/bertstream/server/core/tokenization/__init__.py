"""Turns batches of texts into columns of token ids and back; synchronous, and safe to call from many threads."""

from bertstream.server.core.tokenization.spelling import Spelling
from bertstream.server.core.tokenization.templates import TokenizerError
from bertstream.server.core.tokenization.tokenizer import TextTokenizer
from bertstream.server.core.tokenization.values import (
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
from bertstream.server.core.tokenization.writing import Writer, Writing

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
