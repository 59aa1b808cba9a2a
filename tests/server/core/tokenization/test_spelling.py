"""Spellings are joined as transformers' fast tokenizers do."""

from __future__ import annotations

import numpy as np
from tokenizers import Tokenizer, models

from bertstream.server.core.tokenization import Texts
from bertstream.server.core.tokenization.spelling import Spelling
from tests.server.core.tokenization.conftest import Case
from tests.server.core.tokenization.reference import AWKWARD, EVERYTHING


def test_joining(case: Case) -> None:
    found = case.ours.tokenize(Texts(AWKWARD), EVERYTHING)
    assert found.tokens is not None
    ends = np.cumsum(found.lengths).tolist()
    for start, end in zip([0, *ends], ends, strict=False):
        once = case.ours.spelling.join(found.tokens[start:end])
        assert once == case.reference.convert_tokens_to_string(found.tokens[start:end])
        assert case.ours.spelling.join([once, once]) == case.reference.convert_tokens_to_string([once, once])
    assert case.ours.spelling.join([]) == ""


def test_marks_of_continuations(case: Case) -> None:
    assert case.ours.spelling.marks_continuations == (case.name in ("minilm", "wordpiece"))


def test_names(case: Case) -> None:
    spelling = case.ours.spelling
    assert spelling.names[5] == case.reference.convert_ids_to_tokens(5)
    assert spelling.name_lengths.tolist() == [len(name) for name in spelling.names]


def test_a_tokenizer_without_a_decoder() -> None:
    plain = Spelling(Tokenizer(models.WordPiece({"a": 0}, unk_token="a")), ["a"])
    assert plain.join(["a", "##b"]) == "a ##b"
