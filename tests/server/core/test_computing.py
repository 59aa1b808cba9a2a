from __future__ import annotations

import pytest

from bertstream.server.core import errors
from bertstream.server.core.computing import before_failure, refuse_if_late
from bertstream.server.core.dispatch import Outcome


def test_what_comes_before_the_first_error() -> None:
    good, bad = Outcome(0, 1, {}), Outcome(1, 1, {}, errors.poisonous(3))
    assert before_failure([good]) == ([good], None)
    assert before_failure([good, bad, Outcome(2, 1, {}, errors.internal())]) == ([good], bad.error)
    assert before_failure([bad, good]) == ([], bad.error)


def test_errors_of_a_stream_are_not_errors_of_items() -> None:
    refuse_if_late(errors.poisonous(3))
    for late in (errors.deadline_exceeded(), errors.model_replaced(), errors.key_unknown("it is gone")):
        with pytest.raises(errors.RequestError) as raised:
            refuse_if_late(late)
        assert raised.value is late
