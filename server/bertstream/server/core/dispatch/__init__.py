"""The way from the frontend to the workers: connections, routing, and recovery where a worker is lost."""

from bertstream.server.core.dispatch.cutting import cut
from bertstream.server.core.dispatch.dispatcher import Dispatcher, Job, Outcome
from bertstream.server.core.dispatch.generating import Finished, generate
from bertstream.server.core.dispatch.link import NewTokens, Sink, WorkerLink
from bertstream.server.core.dispatch.stepping import Stepping

__all__ = [
    "Dispatcher",
    "Finished",
    "Job",
    "NewTokens",
    "Outcome",
    "Sink",
    "Stepping",
    "WorkerLink",
    "cut",
    "generate",
]
