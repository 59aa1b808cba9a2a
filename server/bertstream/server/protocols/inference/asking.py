"""Find out what a request asks for: by which task, with which inputs and options, and which outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bertstream.server.core.errors import invalid
from bertstream.server.protocols.inference import inference_pb2
from bertstream.server.protocols.inference.inputs import parse_inputs
from bertstream.server.protocols.inference.options import COMMON, read_options
from bertstream.server.protocols.inference.tasks.base import AskedTensors, InferTask
from bertstream.server.protocols.inference.tasks.registry import default_task, tasks_of
from bertstream.server.protocols.inference.tensors import OF_HTTP, Spec, bad_tensor
from bertstream.workers.programs.description import ModelDescription

_CLASSES = "classification"


def parse_request(
    message: inference_pb2.ModelInferRequest, description: ModelDescription, max_texts: int
) -> tuple[InferTask, AskedTensors]:
    """Return the task of a request, and what it is to do. Raises INVALID_ARGUMENT, naming the tensor or parameter."""
    options = read_options(message.parameters)
    task, outputs = _outputs(message, description)
    options.check_names(COMMON | task.parameters)
    classes = _classes(message, outputs, len(description.labels))
    return task, AskedTensors(parse_inputs(message, max_texts), options, tuple(outputs), classes)


def _outputs(
    message: inference_pb2.ModelInferRequest, description: ModelDescription
) -> tuple[InferTask, Sequence[Spec]]:
    """Return the first task that gives all outputs that are named, and these outputs."""
    names = [output.name for output in message.outputs]
    if not names:
        return default_task(description)
    there: dict[str, Spec] = {}
    for task, outputs in tasks_of(description):
        own = {spec.name: spec for spec in outputs}
        if all(name in own for name in names):
            _refuse_twice(names)
            return task, [own[name] for name in names]
        there = {**own, **there}
    for name in names:
        if name not in there:
            some = ", ".join(list(there)[:12])
            raise bad_tensor(name, f"this model has no such output; it has {some}; ModelConfig lists all of them")
    raise invalid(
        "outputs", "these belong to several tasks: ask for them in requests of their own", "INVALID_COMBINATION"
    )


def _refuse_twice(names: Sequence[str]) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise bad_tensor(name, "it is named twice among the outputs")


def _classes(message: inference_pb2.ModelInferRequest, outputs: Sequence[Spec], labels: int) -> Mapping[str, int]:
    """Return how many of the best labels are wanted of which outputs."""
    wanted: dict[str, int] = {}
    shapes = {spec.name: spec.shape for spec in outputs}
    for output in message.outputs:
        options = read_options(output.parameters)
        for name in options.given:
            if name != _CLASSES and name not in OF_HTTP:
                raise bad_tensor(output.name, f"there is no parameter {name[:80]!r} of an output here")
        best = options.number(_CLASSES, 0, (1 << 31) - 1)
        if not best:
            continue
        if shapes[output.name] != (-1, labels) or not labels:
            raise bad_tensor(output.name, "it has no scores of labels, of which some could be the best")
        wanted[output.name] = min(best, labels)
    return wanted
