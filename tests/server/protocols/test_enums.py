from __future__ import annotations

from typing import Literal

import pytest

from bertstream.server.core.errors import RequestError
from bertstream.server.protocols.bertstream_v1.validation.names import OUTPUTS
from bertstream.server.protocols.enums import names_in, names_of
from bertstream.v1 import encoding_pb2


def test_lists_of_values_are_named_once_each_in_their_order() -> None:
    assert names_of(OUTPUTS, [3, 1, 3, 1], "x") == ["last_hidden_state", "pooled"]
    with pytest.raises(RequestError) as raised:
        names_of(OUTPUTS, [3, 3, 1, 0, 99], "options.outputs")
    assert raised.value.violations[0].field == "options.outputs[3]"


def test_names_are_those_of_the_protocol_that_the_inside_knows() -> None:
    modes = encoding_pb2.PoolingMode
    assert names_in(modes, Literal["max", "mean_sqrt_len"]) == {3: "max", 4: "mean_sqrt_len"}
    assert names_in(modes, Literal["max"] | Literal["cls"], "max") == {0: "max", 1: "cls", 3: "max"}
