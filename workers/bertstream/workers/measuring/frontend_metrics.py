"""Declare what frontends count and time."""

from __future__ import annotations

from bertstream.workers.measuring.declarations import BYTES, SECONDS, Metric

_CALL = ("grpc.method", "grpc.status")
_METHOD = (
    "`grpc.method` is the full name, `package.Service/Method`, of a call over HTTP its endpoint, "
    "`POST /v1/embeddings`, or `other` where the server has no such method, and `grpc.status` is the code's name."
)

# The names of gRPC's own metrics of servers: gRFC A66.
CALLS_STARTED = Metric(
    "grpc.server.call.started",
    "counter",
    "{call}",
    "Counts calls that began, whether or not they were let in.",
    ("grpc.method",),
)
CALL_DURATION = Metric(
    "grpc.server.call.duration",
    "histogram",
    "s",
    f"Measures calls from the first link of the chain until their status is known. {_METHOD}",
    _CALL,
    SECONDS,
)
CALL_SENT = Metric(
    "grpc.server.call.sent_total_compressed_message_size",
    "histogram",
    "By",
    "Measures the bytes of all messages of a call's answer, as they are sent.",
    _CALL,
    BYTES,
)
CALL_RECEIVED = Metric(
    "grpc.server.call.rcvd_total_compressed_message_size",
    "histogram",
    "By",
    "Measures the bytes of all messages that a call had read, as they came.",
    _CALL,
    BYTES,
)
CALLS_UNDER_WAY = Metric("bertstream.calls.active", "gauge", "{call}", "Counts calls that are under way.")
STREAMS = Metric("bertstream.stream.active", "gauge", "{stream}", "Counts bulk streams that are under way.")
STREAM_ITEMS = Metric(
    "bertstream.stream.items", "gauge", "{item}", "Counts items that bulk streams have read and not answered yet."
)
STREAM_TOKENS = Metric(
    "bertstream.stream.tokens", "gauge", "{token}", "Counts tokens that bulk streams have under way."
)
STREAM_BYTES = Metric(
    "bertstream.stream.requests", "gauge", "By", "Measures the messages of bulk streams that are not answered yet."
)
REFUSALS = Metric(
    "bertstream.refusals",
    "counter",
    "{refusal}",
    "Counts errors that callers were given, by their reason as in docs/protocol.md. `of` is `call` where the whole "
    "call ended with it, and `item` for an item of a bulk stream.",
    ("reason", "of"),
)
CALLER_CALLS = Metric(
    "bertstream.caller.calls",
    "counter",
    "{call}",
    "Counts calls that have ended, by the name of the caller's key; there are none without keys.",
    ("caller",),
)
CALLER_TOKENS = Metric(
    "bertstream.caller.tokens",
    "counter",
    "{token}",
    "Counts tokens that were let in, by the name of the caller's key; there are none without keys.",
    ("caller",),
)

_WORK = "`work` is `encode`, or `generate` for text that is generated."
ADMITTED_TEXTS = Metric(
    "bertstream.admitted.texts",
    "counter",
    "{text}",
    f"Counts callers' texts that were let in to be computed. {_WORK}",
    ("model", "work"),
)
ADMITTED_TOKENS = Metric(
    "bertstream.admitted.tokens",
    "counter",
    "{token}",
    "Counts tokens that were let in to be computed, as quotas count them: those of all rows that texts become, and "
    f"those that may be generated. {_WORK}",
    ("model", "work"),
)
HELD_TOKENS = Metric(
    "bertstream.admitted.active",
    "gauge",
    "{token}",
    f"Counts tokens that were let in and are not answered yet, of at most `queue_tokens` in each frontend. {_WORK}",
    ("model", "work"),
)
TOKENIZE_DURATION = Metric(
    "bertstream.tokenize.duration",
    "histogram",
    "s",
    "Measures how long the texts of one message took to tokenize, without the wait for a thread.",
    ("model",),
    SECONDS,
)
TOKENIZED_TEXTS = Metric(
    "bertstream.tokenize.texts", "counter", "{text}", "Counts texts that were tokenized.", ("model",)
)
TOKENIZED_TOKENS = Metric(
    "bertstream.tokenize.tokens", "counter", "{token}", "Counts tokens that texts were made into.", ("model",)
)
WORK_LOST = Metric(
    "bertstream.work.lost",
    "counter",
    "{work}",
    "Counts pieces of work that were tried again or refused since their worker was lost. `computing` is `yes` where "
    "the worker died computing the work, which may have killed it; after three such deaths it is refused.",
    ("model", "computing"),
)

FRONTEND = (
    *(CALLS_STARTED, CALL_DURATION, CALL_SENT, CALL_RECEIVED, CALLS_UNDER_WAY),
    *(STREAMS, STREAM_ITEMS, STREAM_TOKENS, STREAM_BYTES),
    *(REFUSALS, CALLER_CALLS, CALLER_TOKENS),
    *(ADMITTED_TEXTS, ADMITTED_TOKENS, HELD_TOKENS),
    *(TOKENIZE_DURATION, TOKENIZED_TEXTS, TOKENIZED_TOKENS, WORK_LOST),
)
