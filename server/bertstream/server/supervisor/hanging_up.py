"""Handles SIGHUP: reads certificate and keys again, or drains where the signal means that the terminal is gone."""

from __future__ import annotations

import asyncio
import logging
import signal

from bertstream.server.certificates import FollowedCertificates
from bertstream.server.supervisor.keys import ServedKeys
from bertstream.workers.process import logs
from bertstream.workers.process.control import Reload
from bertstream.workers.process.group import Group

log = logging.getLogger(__name__)


class HangUp:
    """Handles SIGHUP in the running event loop, from its construction on."""

    def __init__(self, certificates: FollowedCertificates | None, keys: ServedKeys | None) -> None:
        self._certificates = certificates
        self._keys = keys
        self._groups: tuple[Group, ...] = ()
        self._on_terminal = not logs.structured()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._signalled)

    def attach(self, *groups: Group) -> None:
        """Tell these processes of new certificates, too, from now on."""
        self._groups = groups

    def _signalled(self) -> None:
        if self._on_terminal and logs.structured():  # standard error was a terminal, and that has gone
            signal.raise_signal(signal.SIGTERM)
        elif self._certificates is None and self._keys is None:
            log.info("SIGHUP: without TLS and keys there is nothing to read again", extra={"signal": "SIGHUP"})
        else:
            self._read_again()

    def _read_again(self) -> None:
        if self._keys is not None:
            self._keys.reload()
        if self._certificates is not None and self._certificates.reload():
            for child in [child for group in self._groups for child in group.children]:
                if child.ready.done():  # one that is still starting gets the certificates in use with its settings
                    child.tell(Reload())
