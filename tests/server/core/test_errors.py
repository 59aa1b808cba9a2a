from __future__ import annotations

from bertstream.server.core import errors
from bertstream.server.core.errors import Code, Violation


def test_the_message_names_the_first_field_and_counts_the_others() -> None:
    one = errors.invalid("inputs.texts[3]", "is bad")
    many = errors.invalid_fields([Violation(f"inputs.texts[{i}]", "is bad") for i in range(500)])
    assert one.message == "inputs.texts[3]: is bad"
    assert many.message == "inputs.texts[0]: is bad (and 499 more)"
    assert str(many) == "INVALID_ARGUMENT: inputs.texts[0]: is bad (and 499 more)"
    assert errors.invalid("", "all of it").message == "all of it"


def test_a_name_of_any_length_is_shortened() -> None:
    error = errors.model_not_found("ü" * 10_000, ["mine"])
    assert len(error.message) < 300
    assert error.metadata == {"models": "mine"}


def test_errors_are_exceptions_like_others() -> None:
    one, other = errors.internal(), errors.internal()
    assert one != other
    assert len({one, other}) == 2
    assert one.code is Code.INTERNAL
