"""The calls that gRPC retries."""

from __future__ import annotations

from bertstream.client._transport.channels import rpc_names, service_config


def test_retries_are_for_calls_with_one_request_that_change_nothing() -> None:
    (method,) = service_config(4)["methodConfig"]
    names = {name["method"] for name in method["name"]}
    streams = {"StreamEncodings", "StreamGeneratedTexts", "StreamPredictions", "StreamTokenizations"}
    assert names == {*rpc_names(), "Check"} - streams - {"LoadModel", "UnloadModel"}
    assert method["retryPolicy"]["maxAttempts"] == 5
    assert service_config(0) == {}


def test_rpc_names_are_unique() -> None:
    names = list(rpc_names())
    assert len(names) == len(set(names))
