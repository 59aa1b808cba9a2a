"""Which processes and models a server has at this moment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bertstream.server.messages import GatheredModel, ModelState, ProcessKind, ProcessState
from bertstream.server.supervisor.loading import Loader, Served
from bertstream.workers.process.child import Child
from bertstream.workers.process.group import Group

Life = tuple[str, int]  # a process's name, and how many there were before of that name


@dataclass(frozen=True, slots=True)
class Member:
    """A child process, and what it is for."""

    kind: ProcessKind
    child: Child
    model: str = ""

    @property
    def life(self) -> Life:
        return self.child.spec.name, self.child.life

    @property
    def state(self) -> ProcessState:
        """Return whether the process can be asked anything."""
        if not self.child.alive:
            return "gone"
        return "ready" if self.child.ready.done() else "starting"


def members_of(loader: Loader, frontends: Group, admin: Group) -> Iterator[Member]:
    """Yield all child processes, but for those that compile."""
    for served in loader.running:
        yield from (Member("worker", child, served.launch.name) for child in served.workers.children)
    yield from (Member("frontend", child) for child in frontends.children)
    yield from (Member("admin", child) for child in admin.children)


def models_of(loader: Loader) -> Iterator[GatheredModel]:
    """Yield all models that are served."""
    return map(_model, loader.served)


def _model(served: Served) -> GatheredModel:
    launch, known = served.launch, served.launch.description
    alive = sum(child.alive and child.ready.done() for child in served.workers.children)
    return GatheredModel(
        name=launch.name,
        revision=known.revision,
        dtype=known.compute_type,
        device=launch.compiled.device,
        layers=known.layers,
        heads=known.attention_heads,
        tasks=known.heads,
        state="serving" if alive else _state_without_workers(served.workers),
        workers=launch.workers,
        workers_alive=alive,
        batch_tokens=launch.batch_tokens,
        compile_seconds=launch.compiled.seconds,
    )


def _state_without_workers(workers: Group) -> ModelState:
    """Return whether a model has no live worker yet, or none any more."""
    first = all(child.alive and child.life == 0 for child in workers.children)
    return "loading" if first else "unavailable"
