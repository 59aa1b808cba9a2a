"""What passes between our part of Ray's proxy and a replica, beside messages: a call's deadline, and its end."""

from __future__ import annotations

from collections.abc import Sequence

# Ray's proxy tells a replica neither the deadline nor the end of a stream, and keeps the trailers of what a replica
# returns only. So the deadline is sent as metadata, and a call that fails, and any stream, ends with this message,
# which is no protobuf message (none has a field 0) and reaches no caller: its trailers are those of the call.
ENDED = b"\0the call has ended"
SECONDS_LEFT = "bertstream-seconds-left"  # until the deadline, in the metadata of a call that has one
# Ray's own names in metadata (https://docs.ray.io/en/latest/serve/advanced-guides/grpc-guide.html).
RAY_REQUEST_ID = "request_id"
APPLICATION = "application"

Pair = tuple[str, str | bytes]
Metadata = Sequence[Pair]


def application_of(model: str) -> str:
    """Return the name of the application that serves a model by itself; Ray's log files are named by it."""
    return model.replace("/", "--")
