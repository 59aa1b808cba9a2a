from __future__ import annotations

from bertstream.server.core.preparation import text_error
from bertstream.server.core.tokenization import TokenizationError


def test_errors_of_texts_name_the_option_at_fault() -> None:
    error = TokenizationError("INVALID_WINDOWS", "pairs cannot be cut", "overflowing_windows")
    made = text_error(error, "inputs.pairs[0]")
    assert made.message == "inputs.pairs[0]: pairs cannot be cut (see options.overflowing_windows)"
    assert made.reason == "INVALID_WINDOWS"
    made = text_error(error, "items.inputs.pairs[0]", "options.rerank")
    assert made.message == "items.inputs.pairs[0]: pairs cannot be cut (see options.rerank.overflowing_windows)"
    assert text_error(TokenizationError("INVALID_TEXT", "is bad"), "x").message == "x: is bad"
