from __future__ import annotations

import grpc
import pytest

from bertstream.ray.serve.endings import error_of


@pytest.mark.parametrize(
    ("code", "model", "wanted", "reason", "said"),
    [
        ("DEADLINE_EXCEEDED", "", "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", "request_timeout_s"),
        ("NOT_FOUND", "bert", "NOT_FOUND", "MODEL_NOT_FOUND", "no application of Ray Serve serves the model 'bert'"),
        ("NOT_FOUND", "", "NOT_FOUND", "MODEL_NOT_FOUND", "name a model"),
        ("RESOURCE_EXHAUSTED", "", "RESOURCE_EXHAUSTED", "OVERLOADED", "max_queued_requests"),
        ("UNAVAILABLE", "", "UNAVAILABLE", "WORKER_LOST", "no replica is there"),
        ("INTERNAL", "", "UNAVAILABLE", "WORKER_LOST", "is gone"),
        ("UNKNOWN", "", "UNAVAILABLE", "WORKER_LOST", "is gone"),
    ],
)
def test_what_ray_ends_is_an_error_of_ours(code: str, model: str, wanted: str, reason: str, said: str) -> None:
    error = error_of(grpc.StatusCode[code], model)
    assert error is not None
    assert (error.code.name, error.reason) == (wanted, reason)
    assert said in error.message
    assert (error.retry_seconds is not None) == (wanted in ("UNAVAILABLE", "RESOURCE_EXHAUSTED"))


def test_what_the_caller_has_cancelled_is_none() -> None:
    assert error_of(grpc.StatusCode.CANCELLED, "bert") is None


@pytest.mark.parametrize("rpc", ["LoadModel", "RepositoryModelUnload"])
def test_models_are_not_loaded_by_calls(rpc: str) -> None:
    error = error_of(grpc.StatusCode.NOT_FOUND, "bert", rpc)
    assert error is not None
    assert (error.code.name, error.reason) == ("FAILED_PRECONDITION", "LOADING_NOT_ALLOWED")
