"""Which links of the chain of interceptors each call passes."""

from __future__ import annotations

from bertstream.server.core.gate import Gate
from bertstream.server.frontend import standard
from bertstream.server.protocols.interceptors.chain import EVERY, Chain, Kind
from bertstream.server.protocols.interceptors.errors import answer_errors
from bertstream.server.protocols.interceptors.gate import pass_gate
from bertstream.server.protocols.interceptors.logs import log_call


def chain(gate: Gate) -> Chain:
    """Return the chain of one frontend, from the outermost link to the one around the handler.

    Health does not pass the gate: a Watch lasts as long as its caller likes, and a check must be answered while the
    server drains or is full. Reflection is asked by people who look for what is wrong.
    """
    return Chain(
        (
            (log_call, EVERY),
            (answer_errors, EVERY),
            (pass_gate(gate), Kind.OURS),
        ),
        standard.SERVICES,
    )
