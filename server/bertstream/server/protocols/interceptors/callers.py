"""Identifies the caller, and checks that it may make the call."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from bertstream.server.core.callers import caller_at
from bertstream.server.core.keys import Keys
from bertstream.server.protocols.call import Call
from bertstream.server.protocols.interceptors.chain import Link, Proceed

_SUBJECTS = {"x509_common_name": "CN", "x509_subject_alternative_name": "SAN"}  # gRPC's names, and those of the keys


def identify_caller(keys: Keys, admin_methods: Collection[str] = (), open_services: Collection[str] = ()) -> Link:
    """Return the link that identifies the caller, and refuses one that may not make the call.

    `admin_methods` need the role `admin`, and `open_services` need no key; both are given by their full names.
    """

    async def identifying(call: Call, proceed: Proceed) -> Any:
        if call.method.partition("/")[0] in open_services:
            call.caller = caller_at(call.peer)
            return await proceed()
        given = call.metadata.get("authorization")
        authorization = None if given is None else str(given)
        call.caller = keys.identify(authorization, _subjects(call), call.peer)
        call.caller.check_role("admin" if call.method in admin_methods else "use")
        with call.caller.quota.calling():
            return await proceed()

    return identifying


def _subjects(call: Call) -> Iterator[str]:
    """Yield the names in the client's certificate; gRPC reports only certificates that it has verified."""
    shown = call.context.auth_context()
    for name, kind in _SUBJECTS.items():
        for value in shown.get(name, ()):
            yield f"{kind}={value.decode('utf-8', 'replace')}"
