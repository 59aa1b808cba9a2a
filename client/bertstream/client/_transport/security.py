"""How a client verifies its server, and identifies itself: TLS, certificates, API keys."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from bertstream.client._transport.addresses import is_local

_GRPC_ROOTS = "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"  # where gRPC itself looks first
_HASHED = re.compile(r"[0-9a-f]{8}\.\d+")  # names in a directory of authorities, as `openssl rehash` gives them
_KEY = re.compile(r"[\x21-\x7e]+")
_MISMATCHES = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")  # reasons of OpenSSL

Metadata = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True, slots=True)
class TLS:
    """The settings of a TLS connection. Files are PEM, and are read once, when the client is made.

    Raises ValueError for a certificate without its key, or a key without its certificate.
    """

    ca: str | os.PathLike[str] | None = None
    """The authorities that may have issued the server's certificate; None for those that the system trusts."""
    certificate: str | os.PathLike[str] | None = None
    """The client's own certificate, followed by intermediate ones, for servers that ask for it."""
    key: str | os.PathLike[str] | None = None
    """The private key of that certificate, not encrypted."""
    server_name: str | None = None
    """The name in the server's certificate, if it is not the host of the address."""

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("TLS: certificate and key must be given together")


@dataclass(frozen=True, slots=True)
class Security:
    """The credentials of channels and the metadata of calls that follow from the caller's settings."""

    credentials: grpc.ChannelCredentials | None = None
    server_name: str = ""
    shows_certificate: bool = False
    metadata: Metadata = field(default=(), repr=False)  # has the API key


def security(
    servers: Sequence[str],
    tls: bool | TLS,
    credentials: grpc.ChannelCredentials | None,
    api_key: str | None,
    insecure_key: bool,
) -> Security:
    """Check the caller's settings and return what follows from them. Its ValueErrors and TypeErrors show no key."""
    if not isinstance(tls, bool | TLS):
        raise TypeError(f"tls must be a bool or a TLS, not {type(tls).__name__}")
    if tls and credentials is not None:
        raise ValueError("give tls or credentials, not both")
    chosen = TLS() if tls is True else tls or None
    metadata = _metadata_of(api_key)
    if metadata and not (chosen or credentials or insecure_key):
        _check_private(servers)
    if chosen is None:
        return Security(credentials, metadata=metadata)
    made = _credentials_of(chosen)
    return Security(made, chosen.server_name or "", chosen.certificate is not None, metadata)


def system_roots(environment: Mapping[str, str] = os.environ) -> bytes | None:
    """Return the authorities that the system trusts, in PEM; None to leave the choice to gRPC, which ships its own."""
    if environment.get(_GRPC_ROOTS):
        return None
    paths = ssl.get_default_verify_paths()
    if paths.cafile:
        return Path(paths.cafile).read_bytes()
    found = [each for each in Path(paths.capath).iterdir() if _HASHED.fullmatch(each.name)] if paths.capath else []
    return b"\n".join(each.read_bytes() for each in sorted(found)) or None


def _metadata_of(api_key: str | None) -> Metadata:
    if api_key is None:
        return ()
    if not isinstance(api_key, str):
        raise TypeError(f"api_key must be a str, not {type(api_key).__name__}")
    if not _KEY.fullmatch(api_key):  # gRPC's own error would show it
        raise ValueError("api_key must be visible ASCII characters, without spaces or line ends, and not empty")
    return (("authorization", f"Bearer {api_key}"),)


def _check_private(servers: Sequence[str]) -> None:
    """Raise ValueError if the connection to one of these addresses could be read by others."""
    if others := [server for server in servers if not is_local(server)]:
        raise ValueError(
            f"the API key would go to {', '.join(others)} in plain text, for all on the way to read: "
            "say tls=True (--tls), or insecure_key=True (--insecure-key) where the network itself is safe"
        )


def _credentials_of(tls: TLS) -> grpc.ChannelCredentials:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    roots = system_roots() if tls.ca is None else _read("ca", tls.ca)
    if tls.ca is not None:
        _check_authorities(context, tls.ca)
    if tls.certificate is None or tls.key is None:
        return grpc.ssl_channel_credentials(roots)
    certificate, key = _read("certificate", tls.certificate), _read("key", tls.key)
    _check_pair(context, tls.certificate, tls.key)
    return grpc.ssl_channel_credentials(roots, key, certificate)


def _read(name: str, path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"TLS: the {name} {os.fspath(path)} cannot be read: {error.strerror}") from None


def _check_authorities(context: ssl.SSLContext, path: str | os.PathLike[str]) -> None:
    try:
        context.load_verify_locations(path)
    except ssl.SSLError:
        raise ValueError(f"TLS: the ca {os.fspath(path)} has no certificate in PEM form") from None


def _check_pair(context: ssl.SSLContext, certificate: str | os.PathLike[str], key: str | os.PathLike[str]) -> None:
    """Raise ValueError for a certificate and key that gRPC cannot use, since gRPC itself would not say so."""
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")
    except ssl.SSLError as error:
        both = f"TLS: the key {os.fspath(key)}"
        if error.reason in _MISMATCHES:
            raise ValueError(f"{both} is not that of the certificate {os.fspath(certificate)}") from None
        raise ValueError(
            f"{both}, or the certificate {os.fspath(certificate)}, is not PEM that can be used, or is encrypted"
        ) from None
