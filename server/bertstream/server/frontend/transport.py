"""The arguments of gRPC's core, below our own code: message sizes, bursts, pings, compression.

The core takes a name that it does not know for one that means nothing, so a test looks for each name in it.
"""

from __future__ import annotations

import grpc

from bertstream.server.settings import Limits

PING_SECONDS = 10.0  # between pings, that a client is told to leave at least
_PENDING_CALLS = 10_000  # that have come, and that the event loop has not taken up yet


def arguments(limits: Limits) -> list[tuple[str, int]]:
    """What a frontend's server is made with."""
    return [
        ("grpc.so_reuseport", 1),
        # A burst above `concurrent_calls` is refused by us, with details: gRPC's own limit is a bare CANCELLED.
        ("grpc.server.max_pending_requests", _PENDING_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", 2 * _PENDING_CALLS),
        ("grpc.max_receive_message_length", limits.max_message_bytes),
        ("grpc.max_send_message_length", -1),
        # Clients that keep a silent stream alive by pings must not be taken for a flood. Half of what they are told,
        # since networks bring pings nearer together than they were sent.
        ("grpc.http2.min_ping_interval_without_data_ms", int(PING_SECONDS * 1e3 / 2)),
        ("grpc.keepalive_permit_without_calls", 1),
        # Messages come to us as they were sent, and compression.py inflates them, within our bound.
        ("grpc.per_message_decompression", 0),
        ("grpc.compression_enabled_algorithms_bitset", _bits(grpc.Compression.NoCompression, grpc.Compression.Gzip)),
    ]


def _bits(*algorithms: grpc.Compression) -> int:
    return sum(1 << int(each) for each in algorithms)
