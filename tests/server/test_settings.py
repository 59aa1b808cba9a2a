from __future__ import annotations

import json

from bertstream.server.settings import FrontendSettings, Limits, ModelSettings


def test_settings_travel_as_json() -> None:
    settings = FrontendSettings(
        name="frontend",
        host="::",
        port=1,
        version="0.1",
        models=(ModelSettings("ü", "/a b", ("/s/0", "/s/1"), 7, 64, 3), ModelSettings("other", "/c", (), 8)),
        limits=Limits(1, 2, 3, 4, 5, 6, 7, 8),
        tokenizer_threads=2,
        drain_seconds=0.5,
        worker_wait_seconds=1.5,
        log_level="debug",
        max_load_workers=4,
        number=1,
        frontends=2,
    )
    assert FrontendSettings.from_values(json.loads(json.dumps(settings.to_values()))) == settings
