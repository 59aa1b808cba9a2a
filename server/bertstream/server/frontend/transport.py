"""The arguments of gRPC's core, below our own code: connections, message sizes, bursts, pings, compression.

The core silently ignores an argument that it does not know, so a test looks for each name in it.
"""

from __future__ import annotations

import logging
import resource

import grpc

from bertstream.server.settings import HANDSHAKE_SECONDS, ConnectionLimits, Limits

log = logging.getLogger(__name__)

_OTHER_FILES = 512  # files that a frontend has open besides connections: sockets of workers, tokenizers, logs
PING_SECONDS = 10.0  # the least time between pings that clients are told to keep
_LONGEST_MS = (1 << 31) - 1  # means no limit to gRPC
_PENDING_CALLS = 10_000  # calls that have arrived, but that the event loop has not begun


def arguments(limits: Limits, connections: ConnectionLimits) -> list[tuple[str, int]]:
    """Return the arguments for a frontend's gRPC server."""
    return [
        *_of_connections(connections),
        ("grpc.so_reuseport", 1),
        # We refuse a burst above `concurrent_calls` ourselves, with details: gRPC's own limit gives a bare CANCELLED.
        ("grpc.server.max_pending_requests", _PENDING_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", 2 * _PENDING_CALLS),
        ("grpc.max_receive_message_length", limits.max_message_bytes),
        ("grpc.max_send_message_length", -1),
        # Clients that keep a silent stream alive by pings must not be taken for a flood. The limit is half of what they
        # are told, since pings may arrive closer together than they were sent.
        ("grpc.http2.min_ping_interval_without_data_ms", int(PING_SECONDS * 1e3 / 2)),
        ("grpc.keepalive_permit_without_calls", 1),
        # Messages reach us compressed as they were sent, and compression.py inflates them within our limit.
        ("grpc.per_message_decompression", 0),
        ("grpc.compression_enabled_algorithms_bitset", _bits(grpc.Compression.NoCompression, grpc.Compression.Gzip)),
    ]


def allow_connections(count: int) -> None:
    """Raise the limit of open files for this many connections; on many systems it is 1024 by default."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _OTHER_FILES
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.warning(
            "max_connections is %d, but this process may open %d files: raise that (ulimit -n), or lower the other",
            count,
            hard,
        )


def _of_connections(limits: ConnectionLimits) -> list[tuple[str, int]]:
    """Return the arguments that limit connections: how many, for how long, and what may come over each."""
    seconds = {
        "grpc.server_handshake_timeout_ms": HANDSHAKE_SECONDS,
        "grpc.max_connection_idle_ms": limits.connection_idle_seconds,
        "grpc.max_connection_age_ms": limits.connection_age_seconds,
        "grpc.max_connection_age_grace_ms": max(1e-3, limits.connection_grace_seconds),  # without it there is no end
    }
    return [
        ("grpc.max_allowed_incoming_connections", limits.max_connections),
        ("grpc.max_concurrent_streams", limits.connection_streams),
        # Between a soft and a hard limit gRPC refuses by chance, so both are the same.
        ("grpc.max_metadata_size", limits.max_header_bytes),
        ("grpc.absolute_max_metadata_size", limits.max_header_bytes),
        *((name, min(_LONGEST_MS, max(1, int(value * 1e3)))) for name, value in seconds.items() if value),
    ]


def _bits(*algorithms: grpc.Compression) -> int:
    return sum(1 << int(each) for each in algorithms)
