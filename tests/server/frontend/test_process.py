"""A frontend process, with the test as its supervisor."""

from __future__ import annotations

import dataclasses
import stat
from pathlib import Path

import pytest
from msgspec import to_builtins

from bertstream.server.messages import AwaitDrained, CallsLeft, ServeModels, UseKeys
from bertstream.server.settings import FrontendSettings, KeyEntry, KeysSettings, Limits, ModelSettings
from bertstream.workers.process.control import Answer, Ping, Pong, Progress, Question, Ready, Settings, Started, Stop
from tests.support.led import Led, led

MODULE = "bertstream.server.frontend.process"
SETTINGS = FrontendSettings(
    "frontend-7", "127.0.0.1", 0, "0", (), Limits(1, 1 << 20, 1 << 20, 1 << 20, 1, 1, 1, 1), 1, 1.0, 1.0, "critical"
)


def begun(frontend: Led) -> Led:
    assert frontend.heard() == Started()
    frontend.tell(Settings(SETTINGS))
    assert frontend.heard() == Ready()
    return frontend


def test_it_asks_for_its_settings_and_ends_when_told() -> None:
    with led(MODULE, "frontend-7") as frontend:
        begun(frontend).tell(Ping())
        assert frontend.heard() == Pong()
        frontend.tell(Stop())
        assert frontend.heard() == Progress(to_builtins(CallsLeft(0)))
        assert frontend.process.wait(30) == 0


def test_it_takes_keys_from_its_first_settings_on(tmp_path: Path) -> None:
    first, second = (KeyEntry(name, KeyEntry.hash_of(name), models=("a",), slot=3) for name in ("first", "second"))
    settings = dataclasses.replace(SETTINGS, keys=KeysSettings((first,), str(tmp_path / "counts")))
    with led(MODULE, "frontend-7") as frontend:
        assert frontend.heard() == Started()
        frontend.tell(Settings(settings))
        assert frontend.heard() == Ready()
        frontend.tell(Question(1, UseKeys((first, second))))
        assert frontend.heard() == Answer(1)


def test_its_unix_socket_is_this_users_alone(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("s") / "frontend.socket"
    with led(MODULE, "frontend-7") as frontend:
        assert frontend.heard() == Started()
        frontend.tell(Settings(dataclasses.replace(SETTINGS, admin_socket=str(path))))
        assert frontend.heard() == Ready()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_it_answers_what_it_is_asked_or_says_why_not() -> None:
    with led(MODULE, "frontend-7") as frontend:
        begun(frontend).tell(Question(1, AwaitDrained((3,))))
        assert frontend.heard() == Answer(1)
        frontend.tell(Question(2, ServeModels((ModelSettings("a", "/no/such", (), 1),))))
        refused = frontend.heard()
        assert isinstance(refused, Answer)
        assert refused.error.startswith("/no/such is not a folder that can be read")
        frontend.tell(Question(3, {"type": "SingASong"}))
        refused = frontend.heard()
        assert isinstance(refused, Answer)
        assert "SingASong" in refused.error


def test_it_ends_where_its_supervisor_goes_before_it_answers() -> None:
    with led(MODULE, "frontend-7") as frontend:
        assert frontend.heard() == Started()
        frontend.leave()
        assert frontend.process.wait(30) == 1
