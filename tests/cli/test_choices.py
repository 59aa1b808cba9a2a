"""The values of options are those of the client; the command line lists them itself, so as not to import it."""

from __future__ import annotations

import re
from typing import Any, get_type_hints

import pytest

from bertstream.client import (
    ClassifyOptions,
    ComputeType,
    EncodeOptions,
    EntityOptions,
    RerankOptions,
    TaskOptions,
    TokenizeOptions,
)
from tests.support.literals import values_of_literal

ENCODE, TOKENIZE, TASK = (get_type_hints(kind) for kind in (EncodeOptions, TokenizeOptions, TaskOptions))


@pytest.mark.parametrize(
    ("command", "option", "names"),
    [
        (("encode", "a"), "--pooling", ENCODE["pooling"]),
        (("encode", "a"), "--layer-combination", ENCODE["layer_combination"]),
        (("encode", "a"), "--wire-type", ENCODE["wire_type"]),
        (("encode", "a"), "--kind", ENCODE["kind"]),
        (("encode-multi", "a"), "--wire-type", ENCODE["wire_type"]),
        (("encode-multi", "a"), "--kind", ENCODE["kind"]),
        (("encode", "a"), "--long-texts", ENCODE["long_texts"]),
        (("rerank", "a", "b"), "--window-pooling", ENCODE["window_pooling"]),
        (("encode", "a"), "--truncation-side", ENCODE["truncation_side"]),
        (("tokenize", "a"), "--truncation-side", TOKENIZE["truncation_side"]),
        (("load", "a", "b"), "--dtype", ComputeType),
        (("classify", "a"), "--function", get_type_hints(ClassifyOptions)["function"]),
        (("rerank", "a", "b"), "--function", get_type_hints(RerankOptions)["function"]),
        (("entities", "a"), "--aggregation", get_type_hints(EntityOptions)["aggregation"]),
        (("choose", "a", "b"), "--truncation-side", TASK["truncation_side"]),
    ],
)
def test_an_option_lists_the_names_of_the_client(fails: Any, command: tuple[str, ...], option: str, names: Any) -> None:
    code, error = fails(*command, option, "nonsense")
    listed = re.fullmatch(r".*argument (\S+): invalid choice: 'nonsense' \(choose from (.*?)\).*\n", error)
    assert listed is not None
    assert (code, listed[1]) == (2, option)
    assert sorted(re.findall(r"\w+", listed[2])) == sorted(values_of_literal(names))
