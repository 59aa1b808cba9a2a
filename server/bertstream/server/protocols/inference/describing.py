"""Describe models as the protocol does."""

from __future__ import annotations

import json
from collections.abc import Sequence

from bertstream.server.core.models import ServedModel
from bertstream.server.protocols.inference import inference_pb2
from bertstream.server.protocols.inference.choosing import VERSION
from bertstream.server.protocols.inference.inputs import further_inputs, usual_inputs
from bertstream.server.protocols.inference.tasks.registry import default_task, further_outputs
from bertstream.server.protocols.inference.tensors import Spec

PLATFORM, BACKEND = "bertstream_torchscript", "bertstream"
_TYPES = {
    "BYTES": inference_pb2.TYPE_STRING,
    "INT32": inference_pb2.TYPE_INT32,
    "INT64": inference_pb2.TYPE_INT64,
    "FP32": inference_pb2.TYPE_FP32,
}
_KINDS = {"cpu": inference_pb2.ModelInstanceGroup.KIND_CPU, "cuda": inference_pb2.ModelInstanceGroup.KIND_GPU}


def metadata_of(model: ServedModel) -> inference_pb2.ModelMetadataResponse:
    """Return the inputs of a usual request to a model, and the outputs of one that names none."""
    task, outputs = default_task(model.description)
    return inference_pb2.ModelMetadataResponse(
        name=model.name,
        versions=[VERSION],
        platform=PLATFORM,
        inputs=_tensors(usual_inputs(pairs=task.reads_pairs(model.description))),
        outputs=_tensors(outputs),
    )


def config_of(model: ServedModel) -> inference_pb2.ModelConfig:
    """Return what Triton's clients ask of a model's configuration."""
    description = model.description
    task, outputs = default_task(description)
    pairs = task.reads_pairs(description)
    config = inference_pb2.ModelConfig(
        name=model.name,
        platform=PLATFORM,
        backend=BACKEND,
        max_batch_size=model.limits.max_texts,
        input=[
            inference_pb2.ModelInput(name=spec.name, data_type=_TYPES[spec.datatype], dims=spec.shape[1:])
            for spec in usual_inputs(pairs=pairs)
        ],
        output=[
            inference_pb2.ModelOutput(name=spec.name, data_type=_TYPES[spec.datatype], dims=spec.shape[1:])
            for spec in outputs
        ],
        instance_group=[
            inference_pb2.ModelInstanceGroup(
                name=model.name, count=model.dispatcher.workers, kind=_KINDS[description.device]
            )
        ],
        dynamic_batching=inference_pb2.ModelDynamicBatching(
            preserve_ordering=True, priority_levels=2, default_priority_level=1
        ),
        model_transaction_policy=inference_pb2.ModelTransactionPolicy(decoupled=False),
    )
    config.parameters["revision"].string_value = description.revision
    if description.labels:
        config.parameters["labels"].string_value = json.dumps(description.labels, ensure_ascii=False)
    further = {"input": further_inputs(pairs=pairs), "output": further_outputs(description)}
    for kind, specs in further.items():
        for spec in specs:
            config.parameters[f"{kind}.{spec.name}"].string_value = f"{spec.datatype} {list(spec.shape)}"
    return config


def _tensors(specs: Sequence[Spec]) -> list[inference_pb2.ModelMetadataResponse.TensorMetadata]:
    return [
        inference_pb2.ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.shape)
        for spec in specs
    ]
