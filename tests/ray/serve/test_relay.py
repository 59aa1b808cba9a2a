from __future__ import annotations

import pytest

from bertstream.ray.serve.contract import Metadata
from bertstream.ray.serve.relay import relayed_metadata


def relayed(given: Metadata, seconds: float | None = None, model: str = "") -> dict[str, str | bytes]:
    pairs = relayed_metadata(given, seconds, model)
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def test_the_callers_metadata_is_passed_on() -> None:
    found = relayed([("authorization", "Bearer x"), ("x-bin", b"\0")])
    assert (found["authorization"], found["x-bin"]) == ("Bearer x", b"\0")


def test_ray_and_we_have_one_id_for_a_request() -> None:
    found = relayed([("x-request-id", "mine"), ("request_id", "other")])
    assert (found["x-request-id"], found["request_id"]) == ("mine", "mine")
    made = relayed([])
    assert made["x-request-id"] == made["request_id"]
    assert made["x-request-id"] != relayed([])["x-request-id"]


@pytest.mark.parametrize("given", ["not an id", "", "x" * 200])
def test_an_id_that_is_none_is_replaced(given: str) -> None:
    assert relayed([("x-request-id", given)])["x-request-id"] != given


def test_the_deadline_is_told_and_a_callers_claim_is_not() -> None:
    assert relayed([("bertstream-seconds-left", "99")], 2.5)["bertstream-seconds-left"] == "2.5"
    assert "bertstream-seconds-left" not in relayed([("bertstream-seconds-left", "99")])


def test_the_application_is_the_models_unless_the_caller_names_one() -> None:
    assert relayed([], model="org/bert")["application"] == "org--bert"
    assert relayed([("application", "a")], model="bert")["application"] == "a"
    assert "application" not in relayed([])
