"""Declare every metric of the server, by the process that has it.

docs/metrics.md is made from these tables.
"""

from __future__ import annotations

from collections.abc import Mapping

from bertstream.workers.measuring.declarations import BYTES, SECONDS, Metric
from bertstream.workers.measuring.snapshots import Gauges

_CALL = ("grpc.method", "grpc.status")
_METHOD = (
    "`grpc.method` is the full name, `package.Service/Method`, or `other` where the server has no such method, and "
    "`grpc.status` is the code's name."
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

UPTIME = Metric("bertstream.uptime", "gauge", "s", "Measures how long the server has been running.")
VERSION = Metric(
    "bertstream.build",
    "gauge",
    "{server}",
    "Is always 1; its labels are the versions of what the server is made of.",
    ("version", "python", "torch"),
)
READY = Metric(
    "bertstream.ready", "gauge", "1", "Is 1 where the server is ready for calls, and 0 while it starts or drains."
)
RESTARTS = Metric(
    "bertstream.process.restarts",
    "counter",
    "{process}",
    "Counts processes that ended unasked; all that had been ready are replaced. `kind` is frontend, worker or admin; "
    "`cause` is the signal or exit status, `hang` for one that did not answer, or `failure` for one that could not "
    "start.",
    ("kind", "model", "cause"),
)
PROCESSES = Metric("bertstream.processes", "gauge", "{process}", "Counts processes that are ready.", ("kind", "model"))
PROCESS_MEMORY = Metric(
    "bertstream.process.memory",
    "gauge",
    "By",
    "Measures the memory of a process that is resident, with what it shares with others.",
    ("process",),
)
PROCESS_CPU = Metric(
    "bertstream.process.cpu.time",
    "counter",
    "s",
    "Measures the time of processors that a process has used since it started.",
    ("process",),
)

FRONTEND = (CALLS_STARTED, CALL_DURATION, CALL_SENT, CALL_RECEIVED, CALLS_UNDER_WAY)
WORKER: tuple[Metric, ...] = ()
SUPERVISOR = (UPTIME, VERSION, READY, RESTARTS, PROCESSES, PROCESS_MEMORY, PROCESS_CPU)
CATALOG: Mapping[str, Metric] = {metric.name: metric for metric in (*FRONTEND, *WORKER, *SUPERVISOR)}
GAUGES = Gauges({metric.name: metric.merge for metric in CATALOG.values() if metric.kind == "gauge"})
