"""Puts rows from transformers and from us into one form that can be compared."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from transformers import BatchEncoding, PreTrainedTokenizerFast

from bertstream.server.core.tokenization import Column, Side, Tokenized, TokenizeOptions, Truncation

ALL_COLUMNS: frozenset[Column] = frozenset({"tokens", "offsets", "special_tokens_mask", "word_ids"})
NO_LIMIT = Truncation("refuse", 10_000_000)
EVERYTHING = TokenizeOptions(NO_LIMIT, columns=ALL_COLUMNS, allow_empty=True)

AWKWARD = [
    "Hello, world! This is a sentence about encoders.",
    "",
    " ",
    "\t\n  \r\n",
    "  leading and trailing   spaces  ",
    "a",
    "NUL\x00inside",
    "naïve café Ünïcödé Straße İstanbul ΣΊΣΥΦΟΣ",
    "e\u0301 combining e\u0301\u0301\u0301",
    "我们去北京大学 and 東京タワー",
    "مرحبا بالعالم שלום עולם",
    "👩‍👩‍👧‍👦 family 🏳️‍🌈 🇩🇪 👍🏽!",
    "𝕳𝖊𝖑𝖑𝖔 ﬁne ① ㎏ ½",
    "\u200b\u200c\u200d\ufeff\u00a0\u2028",
    "ᚠᛇᚻ ᛒᛦᚦ ꙮ \U0001f9ff\U00013000",
    "[CLS] typed [SEP] by hand [MASK] <s> <mask> </s>",
    "x" * 300,
    "under_score kebab-case CamelCase 3.14 $5 #tag @me http://a.b/c?d=e",
    "don't can't 'tis it's we'll",
    "\u202eright to left override\u202c",
]


class Row(NamedTuple):
    ids: list[int]
    type_ids: list[int]
    tokens: list[str]
    offsets: list[tuple[int, int]]
    special_tokens_mask: list[bool]
    word_ids: list[int]
    sequence_ids: list[int]


def reference_rows(tokenizer: PreTrainedTokenizerFast, *texts: Any, side: Side = "right", **options: Any) -> list[Row]:
    tokenizer.truncation_side = side
    encoded = tokenizer(
        *texts,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        return_token_type_ids=True,
        return_attention_mask=False,
        verbose=False,
        **options,
    )
    return [_reference_row(tokenizer, encoded, index) for index in range(len(encoded["input_ids"]))]


def _reference_row(tokenizer: PreTrainedTokenizerFast, encoded: BatchEncoding, index: int) -> Row:
    return Row(
        encoded["input_ids"][index],
        encoded["token_type_ids"][index],
        list(tokenizer.convert_ids_to_tokens(encoded["input_ids"][index])),  # tokens() has the text itself for <unk>
        [tuple(pair) for pair in encoded["offset_mapping"][index]],
        [bool(mask) for mask in encoded["special_tokens_mask"][index]],
        [-1 if word is None else word for word in encoded.word_ids(index)],
        [-1 if sequence is None else sequence for sequence in encoded.sequence_ids(index)],
    )


def our_rows(tokenized: Tokenized) -> list[Row]:
    assert tokenized.tokens is not None
    assert tokenized.starts is not None
    assert tokenized.ends is not None
    assert tokenized.special_tokens_mask is not None
    assert tokenized.word_ids is not None
    assert tokenized.sequence_ids is not None
    offsets = list(zip(tokenized.starts.tolist(), tokenized.ends.tolist(), strict=True))
    columns: list[list[Any]] = [
        tokenized.ids.tolist(),
        tokenized.filled_type_ids().tolist(),
        tokenized.tokens,
        offsets,
        tokenized.special_tokens_mask.tolist(),
        tokenized.word_ids.tolist(),
        tokenized.sequence_ids.tolist(),
    ]
    ends = np.cumsum(tokenized.lengths).tolist()
    return [Row(*(column[a:b] for column in columns)) for a, b in zip([0, *ends], ends, strict=False)]
