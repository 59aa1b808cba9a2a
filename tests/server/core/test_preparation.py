from __future__ import annotations

from bertstream.server.core.preparation import text_error
from bertstream.server.core.sent import Sent
from bertstream.server.core.tokenization import Pairs, TokenizationError

PAIRS = Pairs(["a"], ["b"])


def test_errors_of_texts_name_the_option_at_fault() -> None:
    error = TokenizationError("INVALID_WINDOWS", "pairs cannot be cut", "stride")
    made = text_error(error, "inputs.pairs[0]", Sent(PAIRS))
    assert made.message == "inputs.pairs[0]: pairs cannot be cut (see options.stride)"
    assert made.reason == "INVALID_WINDOWS"
    made = text_error(error, "items.inputs.pairs[0]", Sent(PAIRS, options="options.rerank"))
    assert made.message == "items.inputs.pairs[0]: pairs cannot be cut (see options.rerank.stride)"
    made = text_error(error, "text[0]", Sent(PAIRS, option_paths={"stride": "parameters[stride]"}))
    assert made.message == "text[0]: pairs cannot be cut (see parameters[stride])"
    assert text_error(TokenizationError("INVALID_TEXT", "is bad"), "x", Sent(PAIRS)).message == "x: is bad"


def test_errors_of_pairs_name_the_text_at_fault() -> None:
    error = TokenizationError("INVALID_TEXT_LENGTH", "is long", sequence=1)
    assert text_error(error, "x", Sent(PAIRS)).message == "x: the second text is long"
    assert text_error(error, "x", Sent(PAIRS), ("query", "document")).message == "x: the document is long"
