"""Addresses of servers: which are valid, which belong to this machine, and which are reached through a proxy.

Source: gRPC's naming document (https://github.com/grpc/grpc/blob/master/doc/naming.md), and for proxies its
doc/environment_variables.md.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address, ip_network
from urllib.parse import unquote, urlsplit

EXAMPLE = "say host:port, such as 127.0.0.1:50051"
LOCAL_SCHEMES = ("unix", "unix-abstract", "vsock")
FOREIGN_SCHEMES = ("xds", "google-c2p")  # only gRPC can read their names
PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")  # the first that is set counts, even if it is empty
DIRECT_VARIABLES = ("no_grpc_proxy", "no_proxy")

_SCHEME = re.compile(r"(dns|ipv4|ipv6|unix|unix-abstract|vsock|xds|google-c2p):")
_HOST = re.compile(r"[^\s\[\]:/\\?#@,;\"'<>{}|^`\x00-\x1f]+")


def servers_of(address: object) -> tuple[str, ...]:
    """Return the address of each server: the parts of a str between commas, or the items of a sequence.

    The endpoints of `ipv4:` and `ipv6:` stay together, as they are one target to gRPC; a path may have commas itself.
    Raises ValueError for an address to which gRPC could never connect or that comes twice, and TypeError for what is
    neither a str nor a sequence of them.
    """
    if isinstance(address, str):
        scheme = _split(address)[0]
        parts = [address] if scheme not in ("", "dns") else address.split(",")
        servers = parts if len(parts) == 1 else [part.strip() for part in parts]
    elif isinstance(address, Sequence) and not isinstance(address, bytes | bytearray):
        servers = list(address)
    else:
        raise TypeError(f"address must be a str or a sequence of them, not {type(address).__name__}; {EXAMPLE}")
    if not servers:
        raise ValueError(f"address has no server in it; {EXAMPLE}")
    for server in servers:
        check_address(server)
    if twice := next((server for server in servers if servers.count(server) > 1), None):
        raise ValueError(f"address has {twice!r} more than once: name each server once")
    return tuple(servers)


def check_address(address: object) -> None:
    """Raise ValueError for an address to which gRPC could never connect, and TypeError for what is not a str."""
    if not isinstance(address, str):
        raise TypeError(f"address must be a str, not {type(address).__name__}; {EXAMPLE}")
    if not address:
        raise ValueError(f"address is empty; {EXAMPLE}")
    # Apart from the other faults, since its error must not show the password.
    if "@" in address and _split(address)[0] not in LOCAL_SCHEMES + FOREIGN_SCHEMES:
        raise ValueError(f"address must be without a user and a password; {EXAMPLE}")
    if fault := _fault(address):
        raise ValueError(f"address {address!r} {fault}")


def is_local(address: str) -> bool:
    """Return whether the address is of this machine, so that there is no proxy or network on the way."""
    scheme, endpoints = _split(address)
    return scheme in LOCAL_SCHEMES or all(_is_loopback(_host_and_port(endpoint)[0]) for endpoint in endpoints)


def may_be_several(address: str) -> bool:
    """Return whether gRPC may find several servers behind an address: it lists them, or asks for a name by `dns:`.

    A bare host:port means one server, even where its host has an address of each kind.
    """
    scheme, endpoints = _split(address)
    if scheme in LOCAL_SCHEMES + FOREIGN_SCHEMES:
        return False
    host = _host_and_port(endpoints[0])[0]
    return len(endpoints) > 1 or (scheme == "dns" and not (_is_loopback(host) or _is_ip(host)))


def are_several(address: str) -> bool:
    """Return whether an address itself lists several servers, as `ipv4:` may."""
    return len(_split(address)[1]) > 1


def proxy_of(address: str) -> str:
    """Return the proxy, as host:port, that the environment makes gRPC use for this address; empty for none."""
    scheme, endpoints = _split(address)
    if scheme in FOREIGN_SCHEMES or is_local(address):
        return ""
    given = next((os.environ[name] for name in PROXY_VARIABLES if name in os.environ), "")
    direct = next((os.environ[name] for name in DIRECT_VARIABLES if name in os.environ), "")
    host = _host_and_port(endpoints[0])[0]
    if not given.startswith("http://") or any(_covers(entry.strip(), host) for entry in direct.split(",")):
        return ""
    try:
        return urlsplit(given).netloc.rpartition("@")[2]
    except ValueError:  # gRPC cannot read it either
        return ""


def _fault(address: str) -> str:
    """Return what is wrong with an address, or an empty string."""
    if "://" in address and not _SCHEME.match(address):
        scheme, _, rest = address.partition("://")
        tls = "; for TLS say tls=True" if scheme.endswith("s") else ""
        return f"must be without {scheme}://{tls}: {rest.strip('/')}" if rest.strip("/") else f"has no host; {EXAMPLE}"
    scheme, endpoints = _split(address)
    if scheme in LOCAL_SCHEMES:
        return "" if endpoints[0].strip("/") else f"has nothing behind {scheme}:"
    if scheme in FOREIGN_SCHEMES:
        return ""
    return next(filter(None, map(_fault_of_endpoint, endpoints)), "")


def _fault_of_endpoint(endpoint: str) -> str:
    host, port = _host_and_port(endpoint)
    if port is None and endpoint.count(":") > 1 and _is_ipv6(endpoint):
        return f"has no port: an IPv6 address stands in brackets, as in [{endpoint}]:50051"
    if endpoint != endpoint.strip() or any(character.isspace() for character in endpoint):
        return f"has a space in it; {EXAMPLE}"
    if port is None and endpoint.count(":") > 1 and not endpoint.startswith("["):
        return f"has more than one port; {EXAMPLE}"
    if not host or (endpoint.startswith("[") and not _is_ipv6(host)) or not (_is_ipv6(host) or _HOST.fullmatch(host)):
        return f"has no host that can be meant; {EXAMPLE}"
    if not port:
        return f"has no port, as in {endpoint.rstrip(':')}:50051"
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        return "has a port that is not a number from 1 to 65535"
    return ""


def _split(address: str) -> tuple[str, list[str]]:
    """Return the scheme ("" for none) and its endpoints: one, or any number for ipv4 and ipv6."""
    found = _SCHEME.match(address)
    if found is None:
        return "", [address]
    scheme, rest = found[1], address[found.end() :]
    if scheme in LOCAL_SCHEMES or scheme in FOREIGN_SCHEMES:
        return scheme, [rest]
    if rest.startswith("//"):  # an authority, such as a name server
        rest = rest[2:].partition("/")[2]
    rest = unquote(rest.lstrip("/"))
    return scheme, [rest] if scheme == "dns" else rest.split(",")


def _host_and_port(endpoint: str) -> tuple[str, str | None]:
    """Return the host, without brackets, and the port, which is None if it is missing or ambiguous."""
    if endpoint.startswith("["):
        host, _, rest = endpoint[1:].partition("]")
        return host, rest[1:] if rest.startswith(":") else None
    if endpoint.count(":") != 1:
        return endpoint, None
    host, _, port = endpoint.partition(":")
    return host, port


def _is_ipv6(host: str) -> bool:
    try:
        IPv6Address(host)
    except ValueError:
        return False
    return True


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return _is_short_loopback(name)
    inner = getattr(address, "ipv4_mapped", None) or address
    return inner.is_loopback or inner.is_unspecified  # a connection to 0.0.0.0 is one to this machine


def _is_short_loopback(host: str) -> bool:
    """Return whether a host is 127.0.0.1 in an old spelling, such as 127.1."""
    try:
        return bool(re.fullmatch(r"[\dxa-f.]+", host)) and socket.inet_aton(host)[0] == 127
    except OSError:
        return False


def _covers(entry: str, host: str) -> bool:
    """Return whether an entry of no_proxy covers this host: as the end of its name, or as a network that it is in."""
    if not entry:
        return False
    if host.lower().endswith(entry.lower()):
        return True
    try:
        return ip_address(host) in ip_network(entry, strict=False)
    except ValueError:
        return False
