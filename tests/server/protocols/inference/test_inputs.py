from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bertstream.server.core.errors import RequestError
from bertstream.server.core.tokenization import Ids, Pairs, Texts
from bertstream.server.protocols.inference.inputs import parse_inputs
from tests.support.inference import raw_strings, request_of

IDS = np.array([[5, 6, 0], [7, 0, 0]], np.int32)
MASK = np.array([[1, 1, 0], [1, 0, 0]])


def test_texts_and_pairs() -> None:
    texts = parse_inputs(request_of(text=["a", "b"]), 8)
    assert (texts.sent.inputs, texts.width) == (Texts(["a", "b"]), 0)
    pairs = parse_inputs(request_of(text=["a", "b"], text_pair=["c", "d"]), 8)
    assert pairs.sent.inputs == Pairs(["a", "b"], ["c", "d"])
    query = parse_inputs(request_of(text=["q"], text_pair=["c", "d"]), 8)
    assert query.sent.inputs == Pairs(["q", "q"], ["c", "d"])


def test_texts_that_are_not_utf8_are_named_and_left_empty() -> None:
    request = request_of(text=["a", "b", "c"])
    request.raw_input_contents[0] = raw_strings(["a", b"\xff", "c"])
    sent = parse_inputs(request, 8).sent
    assert (sent.inputs, list(sent.bad), sent.at(1)) == (Texts(["a", "", "c"]), [1], "text[1]")


def test_padding_is_left_out() -> None:
    given = parse_inputs(request_of(input_ids=IDS, attention_mask=MASK, token_type_ids=MASK), 8)
    assert isinstance(given.sent.inputs, Ids)
    assert given.width == 3
    assert given.sent.inputs.ids.tolist() == [5, 6, 7]
    assert given.sent.inputs.lengths.tolist() == [2, 1]
    assert given.sent.inputs.type_ids is not None
    assert given.sent.inputs.type_ids.tolist() == [1, 1, 1]


def test_ids_beyond_any_vocabulary_stay_beyond_it() -> None:
    given = parse_inputs(request_of(input_ids=np.array([[1 << 40, -(1 << 40)]])), 8)
    assert isinstance(given.sent.inputs, Ids)
    assert given.sent.inputs.ids.tolist() == [(1 << 31) - 1, -1]


@pytest.mark.parametrize(
    ("inputs", "about"),
    [
        ({"text": ["a"] * 9}, "text: 9 texts; the limit of one request is 8"),
        ({"text": ["a"], "inputs": ["a"]}, "inputs: it is another name of text"),
        ({"text": ["a"], "attention_mask": MASK}, "attention_mask: it means nothing with text"),
        ({"input_ids": IDS, "text_pair": ["a"]}, "text_pair: it means nothing with input_ids"),
        ({"text_pair": ["a"]}, "inputs: neither text nor input_ids is among them"),
        ({"input_ids": IDS, "attention_mask": MASK[:, ::-1].copy()}, "padding must be behind the text"),
        ({"input_ids": IDS, "attention_mask": MASK * 2}, "it must be of 0 and 1"),
        ({"input_ids": IDS[:0]}, "input_ids: the batch is empty"),
    ],
)
def test_inputs_that_make_no_sense(inputs: Any, about: str) -> None:
    with pytest.raises(RequestError, match=about):
        parse_inputs(request_of(**inputs), 8)
