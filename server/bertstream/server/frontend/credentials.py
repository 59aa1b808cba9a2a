"""The frontend's certificate for gRPC, which looks for a newer one at every handshake."""

from __future__ import annotations

from typing import Any

import grpc

from bertstream.server.certificates import FollowedCertificates
from bertstream.server.settings import Certificates, TlsSettings


class ServedCertificate:
    """The certificate that clients get, and whether they must show one. gRPC asks for it from threads of its own."""

    def __init__(self, settings: TlsSettings) -> None:
        self._followed = FollowedCertificates(settings.files, settings.certificates)
        self._shown = settings.certificates

    def credentials(self) -> grpc.ServerCredentials:
        """Return the credentials to open a port with. A connection keeps the certificate that it began with."""
        mutual = bool(self._shown.client_ca)
        newer: Any = self._newer  # gRPC's types forbid None, which means no change
        return grpc.dynamic_ssl_server_credentials(_configuration(self._shown), newer, mutual)

    def reload(self) -> None:
        """Read the files at once, also where they seem not to have changed."""
        self._followed.reload()

    def _newer(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the configuration that replaces the one in use; None for no change."""
        self._followed.follow()
        if (current := self._followed.current) == self._shown:
            return None
        self._shown = current
        return _configuration(current)


def _configuration(certificates: Certificates) -> grpc.ServerCertificateConfiguration:
    key, certificate = certificates.key.encode("latin-1"), certificates.certificate.encode("latin-1")
    client_ca = certificates.client_ca.encode("latin-1") or None
    return grpc.ssl_server_certificate_configuration([(key, certificate)], client_ca)
