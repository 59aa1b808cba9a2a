from __future__ import annotations

import pytest

from bertstream.server.admin import health
from bertstream.workers.process.control import NoAnswer
from tests.server.admin.support import app, gathered
from tests.support.asgi import request


async def test_a_server_that_answers_is_alive_and_ready() -> None:
    made = app()
    alive, ready = await request(made, "/healthz"), await request(made, "/readyz")
    assert (alive.status, alive.json["alive"]) == (200, True)
    assert (ready.status, ready.json) == (200, {"ready": True, "draining": False, "models": {"tiny": "serving"}})


async def test_a_server_that_drains_is_alive_but_not_ready() -> None:
    made = app(gathered(ready=False, draining=True))
    assert (await request(made, "/healthz")).status == 200
    ready = await request(made, "/readyz")
    assert (ready.status, ready.json["ready"], ready.json["draining"]) == (503, False, True)


async def test_a_supervisor_that_is_silent_for_long_is_not_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    made = app(NoAnswer("busy"))
    assert (await request(made, "/readyz")).status == 503
    assert (await request(made, "/healthz")).status == 200
    monkeypatch.setattr(health, "SILENT_SECONDS", 0.0)
    assert (await request(made, "/healthz")).status == 503
