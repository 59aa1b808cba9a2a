from __future__ import annotations

import pytest

from bertstream.server.core import errors
from bertstream.server.core.computing import raise_first, refuse_if_late
from bertstream.server.core.dispatch import Outcome


def test_the_first_error_is_raised() -> None:
    raise_first([Outcome(0, 1, {})])
    with pytest.raises(errors.RequestError) as raised:
        raise_first([Outcome(0, 1, {}), Outcome(1, 1, {}, errors.poisonous(3)), Outcome(2, 1, {}, errors.internal())])
    assert raised.value.reason == "POISONOUS_INPUT"


def test_errors_of_a_stream_are_not_errors_of_items() -> None:
    refuse_if_late(errors.poisonous(3))
    for late in (errors.deadline_exceeded(), errors.model_replaced(), errors.key_unknown("it is gone")):
        with pytest.raises(errors.RequestError) as raised:
            refuse_if_late(late)
        assert raised.value is late
