"""Advice for connections that failed, mostly because of TLS, which gRPC's messages explain badly or not at all.

A server that wants TLS, or a certificate, closes the connection without saying why, so that one can only guess.
"""

from __future__ import annotations

from bertstream.client._errors import RpcError, Unavailable
from bertstream.client._transport.security import Security

FAILED, CLOSED, HEALTH_CLOSED = "TLS_FAILED", "CONNECTION_CLOSED", "HEALTH_CLOSED"  # reasons
_NOT_CONNECTED = ("failed to connect", "connections to all backends failing")  # to one server, to several
_HEALTH = "health check call failed"  # by gRPC, which shows no key
_CLOSED = ("Socket closed", "Connection reset")
# Messages of gRPC's core, in any of the supported versions, and the advice for each.
_KNOWN = (
    ("WRONG_VERSION_NUMBER", "does not speak TLS: connect without tls (--no-tls), or have it serve TLS"),
    ("certificate has expired", "shows a certificate that has expired: have it renewed, and look at this clock"),
    ("not yet valid", "shows a certificate that is not valid yet: look at the clocks of both"),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "shows a certificate of an authority that is not trusted here: give that authority's, TLS(ca=…) (--tls-ca)",
    ),
    (
        "Hostname Verification Check failed",
        "shows a certificate for another name: connect by its name, or say it, TLS(server_name=…) (--tls-server-name)",
    ),
)
_OTHER_NAMES = {"is not in peer certificate": "Hostname Verification Check failed"}  # an older wording


def explained(error: RpcError, address: str, security: Security) -> RpcError:
    """Return an error that says what to do, if TLS or a check of health made the connection fail; else the error."""
    said = error.message
    if not isinstance(error, Unavailable) or error.reason or not any(words in said for words in _NOT_CONNECTED):
        return error
    if _HEALTH in said:
        return Unavailable(
            f"the servers at {address} do not tell their health without a key, so that gRPC cannot choose one that "
            "serves: have them do so (open_health), or name each, with commas between",
            reason=HEALTH_CLOSED,
        )
    for older, newer in _OTHER_NAMES.items():
        said = said.replace(older, newer)
    if advice := next((advice for words, advice in _KNOWN if words in said), ""):
        return Unavailable(f"the server at {address} {advice}", reason=FAILED)
    if closed := next((words for words in _CLOSED if words in said), ""):
        return Unavailable(
            f"the server at {address} closed the connection at once ({closed}): {_guess(security)}, or take no more "
            "connections just now",
            reason=CLOSED,
        )
    return error


def _guess(security: Security) -> str:
    if security.credentials is None:
        return "it may want TLS: say tls=True (--tls)"
    if not security.shows_certificate:
        return "it may want a certificate of this client: give TLS(certificate=…, key=…) (--tls-certificate, --tls-key)"
    return "it may not trust the authority of this client's certificate"
