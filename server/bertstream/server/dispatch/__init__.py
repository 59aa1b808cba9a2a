"""From the frontend to the workers: connections, routing, and what happens when a worker is lost."""

from bertstream.server.dispatch.dispatcher import Dispatcher, Job, Outcome, cut
from bertstream.server.dispatch.link import WorkerLink

__all__ = ["Dispatcher", "Job", "Outcome", "WorkerLink", "cut"]
