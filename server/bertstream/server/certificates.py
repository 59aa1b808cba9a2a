"""Reads and checks the server's certificate, its key, and the authorities of its clients, at first and on each change.

The supervisor refuses to start with files that are wrong; the frontends follow the files as they change. Python's own
ssl checks them, since the supervisor loads no grpc.
"""

from __future__ import annotations

import contextlib
import logging
import os
import ssl
import stat
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertstream.server.files import read_regular
from bertstream.server.settings import Certificates, TlsFiles

log = logging.getLogger(__name__)

_NOT_YET_VALID, _EXPIRED = 9, 10  # X509_V_ERR_… of OpenSSL
_NOT_ITS_KEY = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")  # its reasons
_Stamp = tuple[tuple[int, int, int], ...]


class CertificateError(Exception):
    """Files that cannot be used; the message names the file and its fault, and shows nothing of a key."""


@dataclass(frozen=True, slots=True)
class Checked:
    """The contents of the files, and the warnings to log about them."""

    certificates: Certificates
    expires: str = ""  # such as "Nov 29 05:16:31 2027 GMT"; empty where clients refuse the certificate
    warnings: tuple[str, ...] = ()


def read(files: TlsFiles) -> Checked:
    """Read the files and check that they belong together. Raises CertificateError."""
    certificate, key = _read(files.certificate, "CERTIFICATE"), _read(files.key, "PRIVATE KEY")
    if "ENCRYPTED" in key:
        raise CertificateError(f"{files.key} is encrypted, and nobody is asked for its password: decrypt it")
    client = _trusting(files.certificate, certificate)
    expires, fault = _validity(_showing(files, certificate, key), client)
    client_ca = _read(files.client_ca, "CERTIFICATE") if files.client_ca else ""
    if client_ca:
        _trusting(files.client_ca, client_ca)
    warnings = [f"clients will refuse {files.certificate}: {fault}"] if fault else []
    if Path(files.key).stat().st_mode & stat.S_IROTH:
        warnings.append(f"every user of this machine can read the key {files.key}: chmod o-r")
    return Checked(Certificates(certificate, key, client_ca), expires, tuple(warnings))


class FollowedCertificates:
    """The certificates in use: the newest good ones that the files have had. May be used by several threads."""

    def __init__(self, files: TlsFiles, first: Certificates | None = None) -> None:
        """Take the files and the certificates to use until the files change.

        Without `first` the files are read at once. Raises CertificateError.
        """
        self.files = files
        self._lock = threading.Lock()
        self._stamp: _Stamp = () if first else _stamp(files)  # they may have changed since `first` was read
        self._current = first or self._announced(read(files))

    @property
    def current(self) -> Certificates:
        """The certificates in use."""
        return self._current

    def follow(self) -> None:
        """Use what the files hold, if they have changed since the last look and are good."""
        with self._lock:
            if _stamp(self.files) != self._stamp:
                self._renew()

    def reload(self) -> bool:
        """Read the files at once, and use what they hold if that is good; return whether it is."""
        with self._lock:
            return self._renew(confirm=True)

    def _renew(self, confirm: bool = False) -> bool:
        self._stamp = _stamp(self.files)
        try:
            checked = read(self.files)
        except CertificateError as error:
            log.error("the certificate in use is kept: %s", error)
            return False
        if confirm or checked.certificates != self._current:
            self._current = self._announced(checked)
        return True

    def _announced(self, checked: Checked) -> Certificates:
        log.info("using the certificate %s", self.files.certificate, extra={"expires": checked.expires})
        for warning in checked.warnings:
            log.warning("%s", warning)
        return checked.certificates


def serving_context(certificates: Certificates) -> ssl.SSLContext:
    """Return the context of a server that shows these certificates, for servers other than gRPC's.

    They have been checked before.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with _in_memory(certificates.certificate) as certificate, _in_memory(certificates.key) as key:
        context.load_cert_chain(certificate, key)
    if certificates.client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        with _in_memory(certificates.client_ca) as authorities:
            context.load_verify_locations(authorities)
    return context


def subjects_of(certificate: Mapping[str, Any]) -> list[str]:
    """Return the names in a certificate, as `getpeercert` of Python's ssl has it: "CN=…" and "SAN=…"."""
    common = [value for names in certificate.get("subject", ()) for kind, value in names if kind == "commonName"]
    return [*(f"CN={name}" for name in common), *(f"SAN={name}" for _, name in certificate.get("subjectAltName", ()))]


def _read(path: str, kind: str) -> str:
    """Return the contents of a PEM file as text in Latin-1, byte for byte."""
    try:
        text = read_regular(Path(path))[0].decode("latin-1")
    except OSError as error:
        raise CertificateError(f"cannot read {path}: {error.strerror}") from None
    if "-----BEGIN " not in text or f"{kind}-----" not in text:
        raise CertificateError(f"{path} has no {kind.lower()} in PEM form")
    return text


def _trusting(path: str, certificates: str) -> ssl.SSLContext:
    """Return the context of a client that trusts these certificates, whoever has signed them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    try:
        with _in_memory(certificates) as in_memory:
            context.load_verify_locations(in_memory)
    except ssl.SSLError as error:
        raise CertificateError(f"{path} cannot be used: {_reason(error)}") from None
    return context


def _showing(files: TlsFiles, certificate: str, key: str) -> ssl.SSLContext:
    """Return the context of a server that shows this certificate, which has been parsed before."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        with _in_memory(certificate) as certificate_path, _in_memory(key) as key_path:
            context.load_cert_chain(certificate_path, key_path, password=lambda: "")
    except ssl.SSLError as error:
        if error.reason in _NOT_ITS_KEY:
            message = f"{files.key} is not the key of {files.certificate}, of the first certificate there"
        else:
            message = f"{files.key}, with {files.certificate}, cannot be used: {_reason(error)}"
        raise CertificateError(message) from None
    return context


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or "not valid PEM").lower().replace("_", " ").replace("pem", "PEM")


def _validity(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[str, str]:
    """Return when the certificate expires, and why clients refuse it if they do, from a handshake in memory."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    served = server.wrap_bio(to_server, to_client, server_side=True)
    asking = client.wrap_bio(to_client, to_server)
    try:
        for side in (asking, served, asking):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
        found = asking.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        known = {_EXPIRED: "it has expired", _NOT_YET_VALID: "it is not valid yet"}
        return "", known.get(error.verify_code, error.verify_message)
    return str(found["notAfter"]), ""


@contextlib.contextmanager
def _in_memory(text: str) -> Iterator[str]:
    """Yield the path of a file in memory with this text, for functions of ssl that only load files.

    So the text that is checked is the text that is used, and no copy stays on a disk.
    """
    fd = os.memfd_create("pem")
    try:
        os.write(fd, text.encode("latin-1"))
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _stamp(files: TlsFiles) -> _Stamp:
    """Return times, sizes and inodes, which change when a file does; all zeros for a file that does not exist."""
    stamps = []
    for path in filter(None, (files.certificate, files.key, files.client_ca)):
        try:
            found = Path(path).stat()
        except OSError:
            stamps.append((0, 0, 0))
        else:
            stamps.append((found.st_mtime_ns, found.st_size, found.st_ino))
    return tuple(stamps)
