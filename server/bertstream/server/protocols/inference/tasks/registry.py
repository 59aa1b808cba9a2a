"""List the kinds of tasks: the first that a model is for has the outputs of a request that names none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bertstream.server.protocols.inference.tasks.answers import Questions
from bertstream.server.protocols.inference.tasks.base import InferTask
from bertstream.server.protocols.inference.tasks.encoding import Encoding
from bertstream.server.protocols.inference.tasks.labels import Labels
from bertstream.server.protocols.inference.tasks.masks import Masks
from bertstream.server.protocols.inference.tasks.sparse import Sparse
from bertstream.server.protocols.inference.tensors import Spec
from bertstream.workers.programs.description import ModelDescription

_ENCODING, _SPARSE, _MASKS = Encoding(), Sparse(), Masks()
_HEADS: Sequence[InferTask] = (
    Labels("sequence_classification", by_token=False),
    Labels("token_classification", by_token=True),
    Questions(),
)
# A masked language model is an encoder for most who serve one, so its weights and candidates come last.
TASKS: Sequence[InferTask] = (*_HEADS, _ENCODING, _SPARSE, _MASKS)


def tasks_of(description: ModelDescription) -> Iterator[tuple[InferTask, Sequence[Spec]]]:
    """Yield the tasks that a model is for, each with all its outputs."""
    for task in TASKS:
        if outputs := task.outputs(description):
            yield task, outputs


def default_task(description: ModelDescription) -> tuple[InferTask, Sequence[Spec]]:
    """Return the task of a request that names no outputs, and these outputs."""
    task, outputs = next(tasks_of(description))
    named = {spec.name: spec for spec in outputs}
    return task, [named[name] for name in task.defaults(description)]


def further_outputs(description: ModelDescription) -> list[Spec]:
    """Return the outputs that a request may name besides those that it gets without naming any."""
    _, listed = default_task(description)
    names = {spec.name for spec in listed}
    found = {spec.name: spec for _, outputs in tasks_of(description) for spec in outputs}
    return [spec for spec in found.values() if spec.name not in names]
