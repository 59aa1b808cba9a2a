"""Follows the server's keys, and tells them to the frontends."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from bertstream.server.config import ConfigError, ServeConfig
from bertstream.server.keys.file import KeysError
from bertstream.server.keys.following import FollowedKeys
from bertstream.server.settings import FollowedKeysSettings, KeysSettings
from bertstream.server.supervisor.frontends import Frontends, FrontendsFailed

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # between looks at the file
TELL_SECONDS = 10.0  # the time that frontends have to answer before they are told again


def followed_keys(config: ServeConfig) -> FollowedKeys | None:
    """Return the keys that callers must show, None where anyone may call. Raises ConfigError."""
    if not config.keys_file:
        return None
    try:
        path = Path(config.keys_file).expanduser().absolute()
        return FollowedKeys(path, certificates=bool(config.tls_client_ca))
    except KeysError as error:
        raise ConfigError(f"keys_file: {error}") from None


class ServedKeys:
    """Looks for new keys every second, and has all frontends use them."""

    def __init__(self, followed: FollowedKeys, config: ServeConfig, folder: Path) -> None:
        self._followed = followed
        self._settings = KeysSettings((), str(folder / "keys"), config.open_health, config.open_reflection)
        self._hurry = asyncio.Event()

    @property
    def settings(self) -> KeysSettings:
        """The settings for a frontend that starts now."""
        return dataclasses.replace(self._settings, keys=self._followed.current)

    @property
    def followed(self) -> FollowedKeysSettings:
        """The settings for a process that follows the file by itself."""
        followed = self._followed
        return FollowedKeysSettings(str(followed.path), followed.certificates, followed.current)

    def reload(self) -> None:
        """Have the file read at once, also where it seems not to have changed."""
        self._hurry.set()

    async def follow(self, frontends: Frontends) -> None:
        """Follow the file until cancelled."""
        untold = False
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), LOOK_SECONDS)
            read = self._followed.reload if self._hurry.is_set() else self._followed.follow
            self._hurry.clear()
            untold = (read() or untold) and not await self._tell(frontends)

    async def _tell(self, frontends: Frontends) -> bool:
        """Tell all frontends the keys in use; return whether all of them know. One that starts is told again."""
        try:
            async with asyncio.timeout(TELL_SECONDS):
                await frontends.use_keys(self._followed.current)
        except (TimeoutError, FrontendsFailed) as error:
            log.warning("not all frontends know the new keys yet: %s", str(error) or "no answer")
            return False
        return True


@contextlib.asynccontextmanager
async def following(keys: ServedKeys | None, frontends: Frontends) -> AsyncIterator[None]:
    """Tell the frontends of new keys while the body runs; without keys, do nothing."""
    if keys is None:
        yield
        return
    task = asyncio.create_task(keys.follow(frontends))
    try:
        yield
    finally:
        task.cancel()
