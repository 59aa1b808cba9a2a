"""Limits which calls may begin, and how many run at once."""

from __future__ import annotations

from typing import Any

from bertstream.server.core.gate import Gate
from bertstream.server.protocols.call import Call
from bertstream.server.protocols.interceptors.links import Link, Proceed


def pass_gate(gate: Gate) -> Link:
    """Return the link that counts calls at the gate, and refuses those that it does not let in."""

    async def passing(call: Call, proceed: Proceed) -> Any:
        with gate.passing(call.caller):
            return await proceed()

    return passing
