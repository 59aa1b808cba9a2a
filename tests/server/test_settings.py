from __future__ import annotations

import dataclasses
import json

from bertstream.server.settings import (
    Certificates,
    ConnectionLimits,
    FrontendSettings,
    Limits,
    ModelSettings,
    TlsFiles,
    TlsSettings,
)


def test_settings_travel_as_json() -> None:
    settings = FrontendSettings(
        name="frontend",
        host="::",
        port=1,
        version="0.1",
        models=(ModelSettings("ü", "/a b", ("/s/0", "/s/1"), 7, 64, 3), ModelSettings("other", "/c", (), 8)),
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
        assert FrontendSettings.from_values(json.loads(json.dumps(each.to_values()))) == each


def test_a_key_is_not_shown() -> None:
    tls = TlsSettings(TlsFiles("/a.pem", "/a.key"), Certificates("a certificate", "a secret"))
    assert "a certificate" in repr(tls)
    assert "a secret" not in repr(tls)
