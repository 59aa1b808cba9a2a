"""The certificate of a port of HTTP, which is that of the gRPC port, and looks for a newer one at every handshake."""

from __future__ import annotations

import ssl

from bertstream.server.certificates import FollowedCertificates, serving_context
from bertstream.server.settings import TlsSettings


class RenewedContext:
    """The context of a port's handshakes."""

    def __init__(self, settings: TlsSettings) -> None:
        self._followed = FollowedCertificates(settings.files, settings.certificates)
        self._shown = settings.certificates
        self._current = serving_context(self._shown)
        self.context = serving_context(self._shown)
        self.context.sni_callback = self._renew  # called in each handshake, also where the client names no server

    def reload(self) -> None:
        """Read the files at once, also where they seem not to have changed."""
        self._followed.reload()

    def _renew(self, handshake: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext) -> None:
        self._followed.follow()
        if self._followed.current != self._shown:
            self._shown = self._followed.current
            self._current = serving_context(self._shown)
        handshake.context = self._current
