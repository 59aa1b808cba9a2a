"""A caller whose charges a test sees."""

from __future__ import annotations

from collections.abc import Iterable

from bertstream.server.core.callers import Caller
from bertstream.server.core.keys import Keys
from bertstream.server.core.quotas import Quota


class Purse(Quota):
    """Pays for everything, and knows how much that was."""

    def __init__(self) -> None:
        super().__init__()
        self.paid = 0  # tokens

    def charge(self, tokens: int) -> None:
        self.paid += tokens

    async def pay(self, tokens: int) -> None:
        self.paid += tokens

    def give_back(self, tokens: int) -> None:
        self.paid -= tokens


class OneCaller(Keys):
    """Knows everyone as one caller."""

    def __init__(self, purse: Purse) -> None:
        super().__init__()
        self._caller = Caller("everyone", quota=purse)

    def identify(self, authorization: str | None, subjects: Iterable[str] = (), peer: str = "") -> Caller:
        return self._caller
