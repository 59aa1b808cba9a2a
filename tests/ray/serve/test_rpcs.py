from __future__ import annotations

from collections.abc import Callable

import pytest
from google.protobuf.message import Message

from bertstream.ray.serve.rpcs import RPCS, SERVICES, named_model
from bertstream.server.frontend.handling import DESCRIPTORS
from bertstream.server.protocols.inference import inference_pb2
from bertstream.v1 import encoding_pb2, models_pb2, tasks_pb2, tokenization_pb2, types_pb2

PATHS = {rpc.name: rpc.model_paths for rpc in RPCS}


def test_all_rpcs_that_are_served_go_through_the_proxy() -> None:
    assert {service.full_name for service in SERVICES} == {service.full_name for service in DESCRIPTORS}
    assert len(PATHS) == len(RPCS)  # Ray knows them by the last part of their names alone


@pytest.mark.parametrize(
    ("rpc", "make"),
    [
        ("EncodeTexts", lambda name: encoding_pb2.EncodeTextsRequest(options=_options(name), inputs=_texts())),
        ("StreamEncodings", lambda name: encoding_pb2.StreamEncodingsRequest(options=_options(name))),
        ("DetokenizeTokens", lambda name: tokenization_pb2.DetokenizeTokensRequest(model=name)),
        ("GetModel", lambda name: models_pb2.GetModelRequest(name=name)),
        ("StreamPredictions", lambda name: tasks_pb2.StreamPredictionsRequest(options=_prediction(name))),
        ("ModelInfer", lambda name: inference_pb2.ModelInferRequest(id="1", model_name=name)),
    ],
)
def test_the_model_that_a_request_names(rpc: str, make: Callable[[str], Message]) -> None:
    assert named_model(make("bert-ä").SerializeToString(), PATHS[rpc]) == "bert-ä"
    assert named_model(make("").SerializeToString(), PATHS[rpc]) == ""


def _options(name: str) -> encoding_pb2.EncodingOptions:
    return encoding_pb2.EncodingOptions(model=name)


def _prediction(name: str) -> tasks_pb2.PredictionOptions:
    return tasks_pb2.PredictionOptions(score_text=tasks_pb2.ScoreTextOptions(model=name))


def _texts() -> types_pb2.TextBatch:
    return types_pb2.TextBatch(texts=types_pb2.Texts(texts=["a", "b" * 300]))


@pytest.mark.parametrize(
    "raw", [b"\x0a", b"\x0a\xff", b"\x0a\x02\x0a", b"\xff" * 20, b"\x0b", b"\x0a\x03\x0a\x01\xff", b"\x1f\x8b"]
)
def test_a_malformed_request_names_none(raw: bytes) -> None:
    assert named_model(raw, PATHS["EncodeTexts"]) == ""


def test_a_request_without_a_place_for_it_names_none() -> None:
    assert named_model(b"\x0a\x01a", PATHS["ListModels"]) == ""
