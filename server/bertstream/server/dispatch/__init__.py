"""From the frontend to the workers: connections, routing, and what happens when a worker is lost."""

from bertstream.server.dispatch.cutting import cut
from bertstream.server.dispatch.dispatcher import Dispatcher, Job, Outcome
from bertstream.server.dispatch.generating import Finished, generate
from bertstream.server.dispatch.link import NewTokens, Sink, WorkerLink
from bertstream.server.dispatch.stepping import Stepping

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
