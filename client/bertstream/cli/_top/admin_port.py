"""The live numbers of a server, as they come from its admin port over HTTP."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

from bertstream.cli._options import Secrets

if TYPE_CHECKING:
    from bertstream.client import RpcError

Numbers: TypeAlias = dict[str, Any]
"""One second's numbers: what `/api/live` sends."""
LIVE = "/api/live"
TIMEOUT_SECONDS = 10.0  # without an answer; numbers come once a second


class AdminPort:
    """The admin port at an address, asked as the options say."""

    def __init__(self, address: str, secrets: Secrets, timeout: float | None = None) -> None:
        """Raise ValueError where this cannot be meant, or would show the key to others."""
        self.address = address
        self._host, self._port = _host_and_port(address)
        self._timeout = timeout or TIMEOUT_SECONDS
        self._tls = _tls_context(secrets) if secrets.tls else None
        self._server_name = secrets.files.get("server_name") or self._host
        self._headers = {"host": address}
        if secrets.api_key:
            if not (secrets.tls or secrets.insecure_key or _is_local(self._host)):
                raise ValueError(
                    f"the API key would go to {address} in plain text, for all on the way to read: say --tls, or "
                    "--insecure-key where the network itself is safe"
                )
            self._headers["authorization"] = f"Bearer {secrets.api_key}"

    def once(self) -> Numbers:
        """Return the numbers of the last second. Raises the client's errors."""
        with self._answer(f"{LIVE}?once") as answer:
            return self._parsed(answer.read())

    def follow(self) -> Iterator[Numbers]:
        """Yield the numbers once a second, until the server ends that. Raises the client's errors."""
        with self._answer(LIVE) as answer:
            while line := answer.readline():
                if line.startswith(b"data:"):
                    yield self._parsed(line.removeprefix(b"data:"))

    @contextmanager
    def _answer(self, path: str) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        try:
            connection.sock = self._connected()
            connection.request("GET", path, headers=self._headers)
            response = connection.getresponse()
            if response.status != http.client.OK:
                raise _refusal(self.address, response.status, response.read())
            yield response
        except (OSError, http.client.HTTPException) as error:
            raise self._explained(error) from None
        finally:
            connection.close()

    def _connected(self) -> socket.socket:
        plain = socket.create_connection((self._host, self._port), self._timeout)
        if self._tls is None:
            return plain
        try:
            return self._tls.wrap_socket(plain, server_hostname=self._server_name)
        except BaseException:
            plain.close()
            raise

    def _parsed(self, data: bytes) -> Numbers:
        from bertstream.client import Internal

        try:
            numbers = json.loads(data)
        except ValueError:
            numbers = None
        if not isinstance(numbers, dict):
            raise Internal(f"unexpected answer from {self.address}: no live numbers", reason="UNEXPECTED_RESPONSE")
        return numbers

    def _explained(self, error: Exception) -> RpcError:
        """Return the error that says what to do about one of a connection."""
        from bertstream.client import Unavailable

        where = f"no live numbers from {self.address}"
        if isinstance(error, ssl.SSLCertVerificationError):
            what = f"its certificate is not taken: {error.verify_message} (--tls-ca, --tls-server-name)"
        elif isinstance(error, ssl.SSLError):
            what = f"TLS failed: {error.reason or error}; say --no-tls if it does not speak TLS"
        elif isinstance(error, ConnectionRefusedError):
            what = "connection refused; the server has an admin port if it is started with --admin-port"
        elif isinstance(error, TimeoutError):
            what = f"no answer within {self._timeout:g} s"
        elif isinstance(error, http.client.HTTPException | ConnectionError):
            what = "it does not answer as HTTP does" + ("" if self._tls else "; if it wants TLS, say --tls")
        else:
            what = (isinstance(error, OSError) and error.strerror) or str(error)
        return Unavailable(f"{where}: {what}", reason="NO_LIVE_NUMBERS")


def _refusal(address: str, status: int, body: bytes) -> RpcError:
    """Return the error for an answer other than 200: a google.rpc.Status as JSON, if it is of this server."""
    from bertstream.client import Internal, PermissionDenied, Unauthenticated, Unavailable

    kinds: dict[int, type[RpcError]] = {401: Unauthenticated, 403: PermissionDenied, 503: Unavailable}
    try:
        message = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return Internal(f"no admin port at {address}: it answers with HTTP {status}", reason="UNEXPECTED_RESPONSE")
    return kinds.get(status, Internal)(message, reason="REFUSED")


def _host_and_port(address: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{address}")
        if parts.hostname and parts.port and parts.netloc == address and not (parts.username or parts.password):
            return parts.hostname, parts.port
    except ValueError:
        pass
    raise ValueError("the admin address must be host:port, such as 127.0.0.1:9464")  # not shown, as it may have a key


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _tls_context(secrets: Secrets) -> ssl.SSLContext:
    files = secrets.files
    try:
        context = ssl.create_default_context(cafile=files.get("ca"))
        if "certificate" in files or "key" in files:
            if not {"certificate", "key"} <= files.keys():
                raise ValueError("TLS: certificate and key must be given together")
            context.load_cert_chain(files["certificate"], files["key"], password=lambda: "")
    except OSError as error:  # ssl.SSLError is one, too
        named = ", ".join(files[name] for name in ("ca", "certificate", "key") if name in files)
        raise ValueError(f"TLS: {named} cannot be used: {error.strerror or error}") from None
    return context
