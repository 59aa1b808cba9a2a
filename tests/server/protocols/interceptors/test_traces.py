from __future__ import annotations

import pytest

from bertstream.server.core.tracing import Parent
from bertstream.server.protocols.interceptors.traces import parent_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
IDS = int(TRACE, 16), int(SPAN, 16)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (f"00-{TRACE}-{SPAN}-01", Parent(*IDS, sampled=True)),
        (f"00-{TRACE}-{SPAN}-00", Parent(*IDS, sampled=False)),
        (f"00-{TRACE}-{SPAN}-03", Parent(*IDS, sampled=True)),  # other flags are for others
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-brings", Parent(*IDS, sampled=True)),
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}", None),
        (f"00-{TRACE}-{SPAN}-01\n", None),
        ("", None),
    ],
)
def test_a_traceparent_is_valid_as_a_whole_or_ignored(given: str, expected: Parent | None) -> None:
    assert parent_of({"traceparent": given}) == expected


def test_a_tracestate_is_passed_on_unless_it_is_very_long() -> None:
    metadata = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "vendor=value"}
    found, cut = parent_of(metadata), parent_of(metadata | {"tracestate": "a=" + "b" * 600})
    assert found is not None
    assert cut is not None
    assert (found.state, cut.state) == ("vendor=value", "")


def test_without_metadata_there_is_no_parent() -> None:
    assert parent_of({}) is None
    assert parent_of({"traceparent": b"\xff"}) is None
