"""Finds the caller of a call by its key, or by the certificate of its connection."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence

from bertstream.server.core.callers import Caller, caller_at
from bertstream.server.core.errors import key_required, key_unknown
from bertstream.server.core.quotas import Quota, SharedCounts
from bertstream.server.settings import KeyEntry

_SCHEME = "bearer"


class Keys:
    """The keys of one server, as one frontend knows them."""

    def __init__(self, entries: Sequence[KeyEntry] | None = None, counts: SharedCounts | None = None) -> None:
        """Take the keys' entries; None lets anyone call."""
        self.required = entries is not None
        self._counts = counts
        self._by_hash: dict[str, tuple[KeyEntry, Caller]] = {}
        self._by_subject: dict[str, Caller] = {}
        self._quotas: dict[tuple[str, str, str], Quota] = {}
        self.replace(entries or ())

    def replace(self, entries: Sequence[KeyEntry]) -> None:
        """Replace all keys; calls that began with a key that is gone are refused the rest."""
        quotas = {entry.identity: self._quota(entry) for entry in entries}
        for gone in self._quotas.keys() - quotas.keys():
            self._quotas[gone].revoke()
        self._quotas = quotas
        callers = [(entry, _caller(entry, quotas[entry.identity])) for entry in entries]
        self._by_hash = {entry.hash: (entry, caller) for entry, caller in callers if entry.hash}
        self._by_subject = {entry.subject: caller for entry, caller in callers if entry.subject}

    def identify(self, authorization: str | None, subjects: Iterable[str] = (), peer: str = "") -> Caller:
        """Return the caller, or raise UNAUTHENTICATED, which says what to do and shows nothing of a key.

        authorization: the header of that name, or None. It takes precedence over a certificate.
        subjects: names in the certificate that the connection was verified by, as "CN=…" and "SAN=…".
        peer: the address, as gRPC writes it, by which callers are known where nobody needs a key.
        """
        if not self.required:
            return caller_at(peer)
        if authorization is not None:
            return self._by_key(authorization)
        for subject in subjects:
            if (caller := self._by_subject.get(subject)) is not None:
                return caller
        raise key_required()

    def _by_key(self, authorization: str) -> Caller:
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != _SCHEME:
            raise key_unknown("the authorization header must be `Bearer KEY`")
        # The look-up is by a hash that nobody can choose, so its duration tells nothing about the keys.
        digest = KeyEntry.hash_of(key.strip())
        found = self._by_hash.get(digest)
        if found is None or not hmac.compare_digest(found[0].hash, digest):
            raise key_unknown("this server does not know this key, or does not any more: check it, or ask for another")
        return found[1]

    def _quota(self, entry: KeyEntry) -> Quota:
        """Return the quota of a key, which is kept when the key changes, so that calls under way stay counted."""
        quota = self._quotas.get(entry.identity) or Quota(entry, self._counts)
        quota.change(entry)
        return quota


def _caller(entry: KeyEntry, quota: Quota) -> Caller:
    return Caller(entry.name, entry.weight, entry.role, entry.models, quota)
