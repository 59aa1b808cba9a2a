"""What a link is, and how several become one; a chain passes each call through the links for its kind."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial, reduce
from typing import Any

from bertstream.server.protocols.call import Call

Proceed = Callable[[], Awaitable[Any]]  # runs the rest of the chain, and the handler at its end
Link = Callable[[Call, Proceed], Awaitable[Any]]


class Kind(enum.Flag):
    """Whose method a call is for."""

    OURS = enum.auto()  # a method that serves models, of whatever protocol
    STANDARD = enum.auto()  # a method that every server may have, as health and reflection
    MISSING = enum.auto()  # there is no such method


EVERY = Kind.OURS | Kind.STANDARD | Kind.MISSING
Links = Sequence[tuple[Link, Kind]]  # the first of them is outermost; each with the kinds of calls that pass it


def joined_by_kind(links: Links) -> Mapping[Kind, Link]:
    """Return one link for each kind of call, which passes it through all links for that kind."""
    return {kind: _joined([link for link, kinds in links if kind in kinds]) for kind in EVERY}


def _joined(links: Sequence[Link]) -> Link:
    """Return one link that passes calls through all of these."""
    innermost: Link = _innermost
    return reduce(_within, reversed(links), innermost)


def _within(inner: Link, outer: Link) -> Link:
    async def both(call: Call, proceed: Proceed) -> Any:
        return await outer(call, partial(inner, call, proceed))

    return both


async def _innermost(call: Call, proceed: Proceed) -> Any:
    with call.until_end:
        return await proceed()
