"""Declare what the supervisor counts, and what it sees of all processes."""

from __future__ import annotations

from bertstream.workers.measuring.declarations import Metric

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
WORKERS = Metric(
    "bertstream.model.workers", "gauge", "{process}", "Counts workers that a model is to have.", ("model",)
)
COMPILE_TIME = Metric(
    "bertstream.model.compile_time",
    "gauge",
    "s",
    "Measures how long it took to compile the version that is served, or to find it in the cache.",
    ("model",),
)

SUPERVISOR = (
    *(UPTIME, VERSION, READY, RESTARTS, PROCESSES, PROCESS_MEMORY, PROCESS_CPU),
    *(WORKERS, COMPILE_TIME),
)
