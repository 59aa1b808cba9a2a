"""The quota of one key: tokens a second, and calls at once, counted for all frontends together."""

from __future__ import annotations

import asyncio
import fcntl
import math
import mmap
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bertstream.server.core.errors import key_unknown, quota_exceeded
from bertstream.server.settings import KEY_SLOTS, KeyEntry
from bertstream.workers.mapped import reserve

BURST_SECONDS = 5.0  # of a key's rate that may be taken at once, after as long a time without use
_CALLS_RETRY_SECONDS = 1.0
LOOK_SECONDS = 1.0  # after which a stream that waits looks again, since its key may change meanwhile


def wait_seconds(full_at: float, cost: float, now: float) -> float:
    """Return the seconds until a bucket has room for this cost; 0 where it has room now.

    All arguments are in seconds, the cost at the key's rate. `full_at` is when the bucket is full again if nothing more
    is taken (the generic cell rate algorithm of ITU-T I.371). A cost above the whole bucket has room once that is full.
    """
    return max(0.0, max(full_at, now) + min(cost, BURST_SECONDS) - BURST_SECONDS - now)


class SharedCounts:
    """The counts of all keys, in a file that all frontends map; zeros mean that nothing was taken.

    A slot's lock is the kernel's, which lets go of it when a frontend dies. Frontends read the same monotonic clock.
    """

    def __init__(self, path: Path, frontends: int = 1, number: int = 0) -> None:
        """Map the file, or make it, as frontend `number`; forget the calls that this frontend had before a restart.

        Raises OSError.
        """
        size = KEY_SLOTS * (8 + 4 * frontends)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        reserve(self._fd, size, path)
        mapped = mmap.mmap(self._fd, size)
        self._full_at = np.frombuffer(mapped, np.float64, KEY_SLOTS)
        self._calls = np.frombuffer(mapped, np.int32, offset=8 * KEY_SLOTS).reshape(frontends, KEY_SLOTS)
        self._own = self._calls[number]
        self._own[:] = 0

    def look(self, slot: int, seconds: float) -> float:
        """Return after how many seconds this cost could be taken; 0 for now."""
        return wait_seconds(float(self._full_at[slot]), seconds, time.monotonic())

    def take(self, slot: int, seconds: float) -> float:
        """Take this cost and return 0, or take nothing and return after how many seconds it could be taken."""
        with self._locked(slot):
            now = time.monotonic()
            full_at = float(self._full_at[slot])
            wait = wait_seconds(full_at, seconds, now)
            if not wait:
                self._full_at[slot] = max(full_at, now) + seconds
            return wait

    def give_back(self, slot: int, seconds: float) -> None:
        """Undo a `take` or a part of it."""
        with self._locked(slot):
            self._full_at[slot] -= seconds

    def begin_call(self, slot: int, most: int) -> bool:
        """Count a call and return True, unless `most` are under way already; 0 is no bound."""
        with self._locked(slot):
            begins = not most or int(self._calls[:, slot].sum()) < most
            self._own[slot] += begins
            return begins

    def end_call(self, slot: int) -> None:
        """Count one call less."""
        self._own[slot] -= 1

    @contextmanager
    def _locked(self, slot: int) -> Iterator[None]:
        fcntl.lockf(self._fd, fcntl.LOCK_EX, 1, slot)
        try:
            yield
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, slot)


class Quota:
    """What one key has left, as one frontend sees it; it follows changes of the key, also under calls that go on."""

    def __init__(self, key: KeyEntry | None = None, counts: SharedCounts | None = None) -> None:
        """Take the key and the counts; without either there is no bound."""
        self._key = key
        self._counts = counts
        self._revoked = False
        self._turn = asyncio.Lock()  # makes streams pay in the order in which they came

    def change(self, key: KeyEntry) -> None:
        """Take the key's new bounds."""
        self._key = key

    def revoke(self) -> None:
        """Refuse everything from now on, since the key is gone: also the rest of calls that began with it."""
        self._revoked = True

    def check_key(self) -> None:
        """Raise UNAUTHENTICATED where the key that a call began with is gone."""
        if self._revoked:
            raise key_unknown("this key is not valid any more: ask for another")

    def check(self) -> None:
        """Raise QUOTA_EXCEEDED, before a call's texts are tokenized, where not even one token would be admitted."""
        self.check_key()
        if self._rate and (wait := self._shared.look(self._slot, 1 / self._rate)):
            raise self._exceeded(wait)

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Count a call while the body runs; raise QUOTA_EXCEEDED where too many are under way."""
        if self._key is None or self._counts is None:
            yield
            return
        counts, slot, most = self._counts, self._key.slot, self._key.concurrent
        if not counts.begin_call(slot, most):
            about = f"this key has {most} calls under way, which is its bound"
            raise quota_exceeded(about, _CALLS_RETRY_SECONDS)
        try:
            yield
        finally:
            counts.end_call(slot)

    def charge(self, tokens: int) -> None:
        """Take these tokens, or raise QUOTA_EXCEEDED, which says when they would fit."""
        self.check_key()
        if self._rate and (wait := self._shared.take(self._slot, tokens / self._rate)):
            raise self._exceeded(wait)

    async def pay(self, tokens: int) -> None:
        """Take these tokens as soon as the key's rate allows.

        Many are paid for in instalments of half a burst at most, so that the key's other calls find room in between.
        """
        paid = 0.0
        async with self._turn:
            try:
                self.check_key()
                while self._rate and (left := tokens / self._rate - paid) > 1e-9:
                    part = min(left, BURST_SECONDS / 2)
                    if wait := self._shared.take(self._slot, part):
                        await asyncio.sleep(min(wait, LOOK_SECONDS))
                        self.check_key()
                    else:
                        paid += part
            except BaseException:
                if paid:
                    self._shared.give_back(self._slot, paid)
                raise

    def give_back(self, tokens: int) -> None:
        """Undo the charge for tokens that were not worked on after all."""
        if self._rate and tokens > 0:
            self._shared.give_back(self._slot, tokens / self._rate)

    @property
    def _rate(self) -> float:
        """Return the tokens a second; 0 for no bound."""
        return self._key.tokens_per_second if self._key is not None and self._counts is not None else 0.0

    @property
    def _slot(self) -> int:
        return self._key.slot if self._key is not None else 0

    @property
    def _shared(self) -> SharedCounts:
        assert self._counts is not None  # the callers have seen that there is a rate
        return self._counts

    def _exceeded(self, wait: float) -> Exception:
        about = f"this key has had its {self._rate:g} tokens a second; try again in {_up(wait, 1)} s"
        return quota_exceeded(about, _up(wait, 3))


def _up(seconds: float, digits: int) -> float:
    """Round up, so that who waits for as long need not wait again."""
    scale = 10.0**digits
    return max(1, math.ceil(round(seconds * scale, 6))) / scale


NO_QUOTA = Quota()
