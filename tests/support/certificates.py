"""Issue certificates for tests, from authorities made on the spot."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import trustme

from bertstream.server.settings import TlsFiles

DAY = datetime.timedelta(days=1)
NAMES = ("localhost", "127.0.0.1", "::1")


class Authority:
    """Sign certificates, and write their files into a folder."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._authority = trustme.CA()
        self.path = folder / f"{name}.pem"
        self._authority.cert_pem.write_to_path(self.path)

    def issue(self, name: str, *hosts: str, days: tuple[int, int] = (-1, 90)) -> TlsFiles:
        """Issue NAME.pem and NAME.key in place of any that are there, valid from and until that many days from now."""
        now = datetime.datetime.now(datetime.UTC)
        dates: dict[str, Any] = {"not_before": now + days[0] * DAY, "not_after": now + days[1] * DAY}
        made = self._authority.issue_cert(*(hosts or NAMES), **dates)
        certificate, key = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        key.touch(mode=0o600)
        made.private_key_pem.write_to_path(key)
        certificate.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        return TlsFiles(str(certificate), str(key))
