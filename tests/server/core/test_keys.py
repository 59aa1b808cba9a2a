"""Callers are found by their keys or certificates."""

from __future__ import annotations

from pathlib import Path

import pytest

from bertstream.server.core.callers import Caller
from bertstream.server.core.errors import Code, RequestError
from bertstream.server.core.keys import Keys
from bertstream.server.core.quotas import SharedCounts
from bertstream.server.settings import KeyEntry

KEY, OTHER = "bs_right", "bs_other"
ENTRY = KeyEntry("search", KeyEntry.hash_of(KEY), role="use", models=("one",), weight=2.5)
CERTIFIED = KeyEntry("ingest", subject="CN=ingest.example.com", role="admin")


def refused(keys: Keys, authorization: str | None, *subjects: str) -> RequestError:
    with pytest.raises(RequestError) as raised:
        keys.identify(authorization, subjects, "ipv4:192.0.2.1:5")
    assert raised.value.code is Code.UNAUTHENTICATED
    assert not any(key in raised.value.message for key in (KEY, OTHER))
    return raised.value


def test_without_keys_anyone_may_call_whatever_is_shown() -> None:
    keys = Keys()
    assert keys.identify("Bearer odd", (), "ipv4:192.0.2.1:5") == Caller("192.0.2.1")
    assert keys.identify(None, (), "unix:/a") == Caller("unix")


@pytest.mark.parametrize("authorization", [f"Bearer {KEY}", f"bearer {KEY}", f"BEARER  {KEY} "])
def test_a_key_says_who_calls(authorization: str) -> None:
    assert Keys([ENTRY]).identify(authorization) == Caller("search", 2.5, "use", ("one",))


@pytest.mark.parametrize(
    "authorization", [f"Bearer {OTHER}", "Bearer ", "Bearer", f"Bearer {ENTRY.hash}", f"Bearer {KEY} x", "Bearer bs_ü"]
)
def test_a_key_that_nobody_knows(authorization: str) -> None:
    error = refused(Keys([ENTRY, CERTIFIED]), authorization, "CN=ingest.example.com")
    assert (error.reason, error.message.split(":")[0]) == (
        "KEY_UNKNOWN",
        "this server does not know this key, or does not any more",
    )


@pytest.mark.parametrize("authorization", [f"Basic {KEY}", KEY, ""])
def test_a_header_of_another_kind(authorization: str) -> None:
    error = refused(Keys([ENTRY]), authorization)
    assert (error.reason, error.message) == ("KEY_UNKNOWN", "the authorization header must be `Bearer KEY`")


def test_nothing_is_shown() -> None:
    for keys in (Keys([]), Keys([ENTRY])):
        error = refused(keys, None, "CN=stranger")
        assert error.reason == "KEY_REQUIRED"
        assert "authorization: Bearer KEY" in error.message


def test_a_certificate_stands_for_a_key() -> None:
    keys = Keys([ENTRY, CERTIFIED])
    assert keys.identify(None, ("SAN=x", "CN=ingest.example.com")) == Caller("ingest", 1.0, "admin")
    refused(keys, None, "SAN=ingest.example.com")
    assert keys.identify(f"Bearer {KEY}", ("CN=ingest.example.com",)).name == "search"  # the header takes precedence


def test_new_keys_take_the_place_of_the_old(tmp_path: Path) -> None:
    counts = SharedCounts(tmp_path / "counts")
    bounded = KeyEntry("search", ENTRY.hash, tokens_per_second=100.0)
    keys = Keys([bounded, CERTIFIED], counts)
    caller = keys.identify(f"Bearer {KEY}")
    caller.quota.charge(500)
    added = KeyEntry("other", KeyEntry.hash_of(OTHER))
    keys.replace([KeyEntry("search", ENTRY.hash, tokens_per_second=50.0, weight=3.0), added])
    assert keys.identify(f"Bearer {OTHER}").name == "other"
    assert keys.identify(f"Bearer {KEY}").weight == 3.0
    with pytest.raises(RequestError, match="its 50 tokens a second"):  # also for the caller that began before
        caller.quota.charge(500)
    refused(keys, None, "CN=ingest.example.com")
    keys.replace([KeyEntry("search", KeyEntry.hash_of("another"))])
    with pytest.raises(RequestError, match="KEY_UNKNOWN"):  # the name alone does not make it the same
        caller.quota.charge(1)
    refused(keys, f"Bearer {KEY}")
    keys.replace([])
    refused(keys, "Bearer another")
