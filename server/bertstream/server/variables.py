"""Which variables of the environment begin with BERTSTREAM_, and which of those that are set nobody reads."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from bertstream.server.config import FIELDS

PREFIX = "BERTSTREAM_"
OPTIONS = frozenset({"BERTSTREAM_CONFIG", *(PREFIX + name.upper() for name in FIELDS)})
# Read where models are compiled and run, and by processes that the server starts.
WORKERS = frozenset(
    {"BERTSTREAM_NATIVE", "BERTSTREAM_CPU", "BERTSTREAM_AMX", "BERTSTREAM_GRAPHS", "BERTSTREAM_LOG_FD"},
)
CLIENTS = frozenset(
    {
        "BERTSTREAM_ADDRESS",
        "BERTSTREAM_ADMIN_ADDRESS",
        "BERTSTREAM_API_KEY",
        "BERTSTREAM_INSECURE_KEY",
        "BERTSTREAM_TLS",
        "BERTSTREAM_TLS_CA",
        "BERTSTREAM_TLS_CLIENT_CERTIFICATE",
        "BERTSTREAM_TLS_CLIENT_KEY",
        "BERTSTREAM_TLS_SERVER_NAME",
    }
)
KNOWN = OPTIONS | WORKERS | CLIENTS
_SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT)(_|\Z)|_PORT_\d+_")  # of Kubernetes, for a service of this name


def warnings_of(environment: Mapping[str, str]) -> list[str]:
    """Return a warning for each variable that is set and that nothing reads, with the nearest name that is read."""
    unknown = (name for name in environment if name.startswith(PREFIX) and name not in KNOWN)
    return [_warning(name) for name in sorted(unknown) if not _SERVICE_LINK.search(name)]


def _warning(name: str) -> str:
    near = difflib.get_close_matches(name, KNOWN, 1, 0.85)
    return f"nothing reads the variable {name}{f': did you mean {near[0]}?' if near else ''}"
