from __future__ import annotations

import dataclasses

from msgspec import convert

from bertstream.server.messages import (
    ChangeOutcome,
    ForFrontend,
    ForSupervisor,
    LoadModel,
    Refusal,
    ServeModels,
    UnloadModel,
)
from bertstream.server.settings import (
    Certificates,
    ConnectionLimits,
    FrontendSettings,
    Limits,
    ModelSettings,
    TlsFiles,
    TlsSettings,
)
from bertstream.workers.process.control import Answer, Question, Settings, decode_from_child, decode_to_child, encode

MODELS = (ModelSettings("ü", "/a b", ("/s/0", "/s/1"), 7, 64, 3), ModelSettings("other", "/c", (), 8))


def test_settings_travel_over_the_line() -> None:
    settings = FrontendSettings(
        name="frontend",
        host="::",
        port=1,
        version="0.1",
        models=MODELS,
        limits=Limits(1, 2, 3, 4, 5, 6, 7, 8),
        connections=ConnectionLimits(max_connections=9),
        tokenizer_threads=2,
        drain_seconds=0.5,
        worker_wait_seconds=1.5,
        log_level="debug",
        max_load_workers=4,
        number=1,
        frontends=2,
    )
    tls = TlsSettings(TlsFiles("/a.pem", "/a.key"), Certificates("\xfc a certificate", "a key"))
    for each in (settings, dataclasses.replace(settings, tls=tls)):
        told = decode_to_child(encode(Settings(each)))
        assert isinstance(told, Settings)
        assert convert(told.values, FrontendSettings) == each


def test_a_key_is_not_shown() -> None:
    tls = TlsSettings(TlsFiles("/a.pem", "/a.key"), Certificates("a certificate", "a secret"))
    assert "a certificate" in repr(tls)
    assert "a secret" not in repr(tls)


def test_questions_travel_over_the_line_and_are_told_apart() -> None:
    for question in (LoadModel("a", "org/a", workers=2), UnloadModel("a")):
        asked = decode_from_child(encode(Question(1, question)))
        assert isinstance(asked, Question)
        assert convert(asked.asked, ForSupervisor) == question
    asked = decode_from_child(encode(Question(1, ServeModels(MODELS))))
    assert isinstance(asked, Question)
    assert convert(asked.asked, ForFrontend) == ServeModels(MODELS)


def test_outcomes_travel_over_the_line() -> None:
    for outcome in (ChangeOutcome(), ChangeOutcome(Refusal("busy", "16 models"))):
        answer = decode_to_child(encode(Answer(1, outcome)))
        assert isinstance(answer, Answer)
        assert convert(answer.value, ChangeOutcome) == outcome
