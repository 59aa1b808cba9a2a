"""Where the server listens, with which certificate, and whether that is safe."""

from __future__ import annotations

import contextlib
import itertools
import logging
import socket
from ipaddress import ip_address
from pathlib import Path

from bertstream.server.certificates import CertificateError, FollowedCertificates
from bertstream.server.config import ConfigError, ServeConfig
from bertstream.server.settings import TlsFiles, TlsSettings

log = logging.getLogger(__name__)

_ANY = ("", "0.0.0.0", "::")  # hosts that stand for all addresses


def followed_certificates(config: ServeConfig) -> FollowedCertificates | None:
    """Return the certificates to serve TLS with, None for plain text. Raises ConfigError."""
    if not config.tls_certificate or not config.tls_key:
        names = ("tls_certificate", "tls_key", "tls_client_ca")
        if given := [name for name in names if getattr(config, name)]:
            lacking = next(name for name in names if not getattr(config, name))
            raise ConfigError(f"{given[0]} needs {lacking} beside it")
        return None
    paths = (config.tls_certificate, config.tls_key, config.tls_client_ca)
    try:
        return FollowedCertificates(TlsFiles(*(_absolute(path) for path in paths)))
    except CertificateError as error:
        raise ConfigError(str(error)) from None


def tls_settings(certificates: FollowedCertificates | None) -> TlsSettings | None:
    """Return the settings of TLS for a frontend that starts now, None for plain text."""
    if certificates is None:
        return None
    certificates.follow()
    return TlsSettings(certificates.files, certificates.current)


def check_exposure(host: str, insecure: bool, *, tls: bool, keys: bool, option: str = "host") -> None:
    """Refuse an address that other machines can reach without TLS or keys, unless `insecure` allows it.

    Keys without TLS are allowed with a warning. The error names the option that the address is from. Raises
    ConfigError.
    """
    if tls or insecure or _is_loopback(host):
        return
    if keys:
        about = "in plain text, for all on the way to read: give tls_certificate and tls_key"
        log.warning("keys come to %r %s", host, about)
        return
    raise ConfigError(
        f"{option} {host!r} can be reached by other machines, in plain text and without a key: give tls_certificate "
        "and tls_key, or keys_file, listen on 127.0.0.1, or say --insecure where the network itself is safe"
    )


def check_ports(config: ServeConfig) -> None:
    """Refuse one port for two purposes, which is told in terms of the options here. Raises ConfigError."""
    ports = [("port", config.host, config.port), ("http_port", config.host, config.http_port)]
    ports.append(("admin_port", config.admin_host, config.admin_port))
    for (name, host, port), (other, other_host, other_port) in itertools.combinations(ports, 2):
        same_place = host == other_host or not {host, other_host}.isdisjoint(_ANY)
        if port > 0 and port == other_port and same_place:
            raise ConfigError(f"{name} and {other} are both {port}: choose another one for one of them")


def reserve_port(host: str, port: int) -> socket.socket:
    """Make sure that nobody else has the port, and hold it with a socket that is bound but does not listen.

    Frontends share the port by SO_REUSEPORT, so that a second server would share it silently. Raises ConfigError.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, socket.SOCK_STREAM) as alone:
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind(address)
            bound = alone.getsockname()
        shared = socket.socket(family, socket.SOCK_STREAM)
        try:
            shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            shared.bind(bound)
        except OSError:
            shared.close()
            raise
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    return shared


def _is_loopback(host: str) -> bool:
    """Tell whether every address of the host is a loopback one; true of a host without any, which cannot be bound."""
    found = []
    with contextlib.suppress(OSError):
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = [ip_address(str(address[0]).partition("%")[0]) for *_, address in found]
    return all((getattr(each, "ipv4_mapped", None) or each).is_loopback for each in addresses)


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute()) if path else ""
