"""Identifies the caller, and checks that it may make the call."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from bertstream.server.core.callers import caller_at
from bertstream.server.core.keys import Keys
from bertstream.server.protocols.call import Call
from bertstream.server.protocols.interceptors.links import Link, Proceed


def identify_caller(keys: Keys, admin_methods: Collection[str] = (), open_names: Collection[str] = ()) -> Link:
    """Return the link that identifies the caller, and refuses one that may not make the call.

    `admin_methods` need the role `admin`, and methods and services among the `open_names` need no key; all are given
    by their full names.
    """

    async def identifying(call: Call, proceed: Proceed) -> Any:
        if call.method in open_names or call.method.partition("/")[0] in open_names:
            call.caller = caller_at(call.peer)
            return await proceed()
        given = call.metadata.get("authorization")
        authorization = None if given is None else str(given)
        call.caller = keys.identify(authorization, call.subjects, call.peer)
        call.caller.check_role("admin" if call.method in admin_methods else "use")
        with call.caller.quota.calling():
            return await proceed()

    return identifying
