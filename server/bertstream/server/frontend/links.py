"""Which links of the chain of interceptors each call passes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from bertstream.server.core.gate import Gate
from bertstream.server.core.keys import Keys
from bertstream.server.core.tracing import Tracer
from bertstream.server.frontend import channelz, standard
from bertstream.server.frontend.load import FrontendLoad
from bertstream.server.protocols.bertstream_v1.changing import CHANGING_METHODS
from bertstream.server.protocols.inference import served as inference
from bertstream.server.protocols.interceptors.callers import identify_caller
from bertstream.server.protocols.interceptors.chain import Chain
from bertstream.server.protocols.interceptors.counting import CallMeasures, count_calls
from bertstream.server.protocols.interceptors.errors import answer_errors
from bertstream.server.protocols.interceptors.gate import pass_gate
from bertstream.server.protocols.interceptors.links import EVERY, Kind, Links
from bertstream.server.protocols.interceptors.load import report_load
from bertstream.server.protocols.interceptors.logs import log_call
from bertstream.server.protocols.interceptors.traces import trace_call
from bertstream.server.protocols.orca import TRAILER
from bertstream.workers.measuring.instruments import Registry

ADMIN_METHODS = frozenset(
    (
        *CHANGING_METHODS,
        *inference.ADMIN_METHODS,
        *channelz.METHODS,
    )
)


def links_of(
    gate: Gate,
    keys: Keys,
    open_names: Collection[str] = (),
    *,
    tracer: Tracer | None = None,
    measures: CallMeasures | None = None,
    load: FrontendLoad | None = None,
    identified: Links = (),
) -> Links:
    """Return the links of one frontend, from the outermost to the one around the handler; all protocols have them.

    Every call is counted by the `measures`, also one that is refused by any other link.

    Where there are keys, every call needs one, except for calls of the open services and methods. Callers without a
    key are refused before the gate, so that they take no place there, and are not told the load.

    Health does not pass the gate: a Watch lasts as long as its caller likes, and a check must be answered while the
    server drains or is full. Nor does reflection, which people use to find out what is wrong. Neither is traced, as
    traces of a check every few seconds would hide the others.

    tracer: given where calls are traced. load: given where they end with a report of the load. identified: what a
    protocol does for callers that are known, before they take a place.
    """
    return (
        (count_calls(measures or CallMeasures(Registry())), EVERY),
        *(((trace_call(tracer), Kind.OURS),) if tracer else ()),
        (log_call, EVERY),
        (answer_errors, EVERY),
        (identify_caller(keys, ADMIN_METHODS, open_names), EVERY),
        *identified,
        *(((report_load(TRAILER, load.report, load.counted), Kind.OURS),) if load else ()),
        (pass_gate(gate), Kind.OURS),
    )


def chain(gate: Gate, keys: Keys, open_names: Collection[str] = (), **options: Any) -> Chain:
    """Return the chain of gRPC, with the options of `links_of`."""
    return Chain(links_of(gate, keys, open_names, **options), standard.SERVICES)
