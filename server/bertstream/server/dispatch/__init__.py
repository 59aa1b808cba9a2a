"""From the frontend to the workers: connections, routing, and what happens when a worker is lost."""

from bertstream.server.dispatch.cutting import cut
from bertstream.server.dispatch.dispatcher import Dispatcher, Job, Outcome
from bertstream.server.dispatch.link import WorkerLink
from bertstream.server.dispatch.stepping import Stepping

__all__ = ["Dispatcher", "Job", "Outcome", "Stepping", "WorkerLink", "cut"]
