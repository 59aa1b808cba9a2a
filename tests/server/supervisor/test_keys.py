"""Keys that the supervisor follows, and tells the frontends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from bertstream.server.config import ConfigError, ServeConfig
from bertstream.server.keys.editing import add, hash_of
from bertstream.server.keys.file import KeyTable
from bertstream.server.settings import KeyEntry
from bertstream.server.supervisor import keys as served
from bertstream.server.supervisor.frontends import Frontends, FrontendsFailed
from bertstream.server.supervisor.keys import ServedKeys, followed_keys, following
from tests.support.waiting import until


class FakeFrontends:
    """Records what it is told; raises each of the failures that it is given once."""

    def __init__(self, *failures: Exception | None) -> None:
        self.told: list[list[str]] = []
        self._failures = list(failures)

    async def use_keys(self, keys: Sequence[KeyEntry]) -> None:
        self.told.append([each.name for each in keys])
        failure = self._failures.pop(0) if self._failures else None
        if isinstance(failure, TimeoutError):
            await asyncio.sleep(60)
        if failure is not None:
            raise failure


@pytest.fixture
def config(tmp_path: Path) -> ServeConfig:
    path = tmp_path / "keys.toml"
    add(path, KeyTable("one", hash_of("1")))
    return ServeConfig(keys_file=str(path))


def made(config: ServeConfig, folder: Path) -> ServedKeys:
    followed = followed_keys(config)
    assert followed is not None
    return ServedKeys(followed, config, folder)


def test_without_a_file_anyone_may_call() -> None:
    assert followed_keys(ServeConfig()) is None


def test_a_file_that_cannot_be_used_ends_the_start(config: ServeConfig) -> None:
    with pytest.raises(ConfigError, match=r"^keys_file: cannot read /none: No such file or directory$"):
        followed_keys(ServeConfig(keys_file="/none"))
    add(Path(config.keys_file), KeyTable("two", subject="CN=two"))
    with pytest.raises(ConfigError, match="which clients show with tls_client_ca alone"):
        followed_keys(config)


async def test_a_frontend_that_starts_is_told_the_newest_keys(config: ServeConfig, tmp_path: Path) -> None:
    keys, frontends = made(config, tmp_path), FakeFrontends()
    first = keys.settings
    assert [each.name for each in first.keys] == ["one"]
    assert (first.counts, first.open_health, first.open_reflection) == (str(tmp_path / "keys"), True, False)
    add(Path(config.keys_file), KeyTable("two", hash_of("2")))
    async with following(keys, cast(Frontends, frontends)):
        await until(lambda: frontends.told)
    assert frontends.told == [["one", "two"]]
    assert [each.name for each in keys.settings.keys] == ["one", "two"]


async def test_a_hang_up_reads_at_once(config: ServeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "LOOK_SECONDS", 60.0)
    keys, frontends = made(config, tmp_path), FakeFrontends()
    async with following(keys, cast(Frontends, frontends)):
        add(Path(config.keys_file), KeyTable("two", hash_of("2")))
        await asyncio.sleep(0.05)
        assert frontends.told == []
        keys.reload()
        await until(lambda: frontends.told)


@pytest.mark.parametrize(
    ("failure", "told"),
    [(FrontendsFailed("frontend-0 died 3 times"), "frontend-0 died 3 times"), (TimeoutError(), "no answer")],
)
async def test_frontends_that_could_not_be_told_are_told_again(
    config: ServeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    failure: Exception,
    told: str,
) -> None:
    monkeypatch.setattr(served, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(served, "TELL_SECONDS", 0.2)
    keys, frontends = made(config, tmp_path), FakeFrontends(failure, failure)
    async with following(keys, cast(Frontends, frontends)):
        add(Path(config.keys_file), KeyTable("two", hash_of("2")))
        await until(lambda: len(frontends.told) == 3)
        await asyncio.sleep(0.1)
    assert frontends.told == [["one", "two"]] * 3
    assert [each.getMessage() for each in caplog.records] == [f"not all frontends know the new keys yet: {told}"] * 2


async def test_without_keys_nothing_is_followed() -> None:
    frontends = FakeFrontends()
    async with following(None, cast(Frontends, frontends)):
        assert frontends.told == []
