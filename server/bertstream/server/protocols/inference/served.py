"""List the service of `inference`, with the handlers of its rpcs."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.descriptor import ServiceDescriptor

from bertstream.server.core.models import Models
from bertstream.server.protocols.changes import Changes
from bertstream.server.protocols.inference import inference_pb2
from bertstream.server.protocols.inference.services import infer
from bertstream.server.protocols.inference.services.models import ModelHandlers
from bertstream.server.protocols.inference.services.repository import RepositoryHandlers
from bertstream.server.protocols.inference.statistics import StatisticsOfModels
from bertstream.server.protocols.rpc import Handler

INFERENCE = inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
SERVICES = (INFERENCE,)
FILES = (inference_pb2.DESCRIPTOR,)  # for reflection, as it is in a descriptor pool of its own
NEED_WORKERS = (INFERENCE,)
ADMIN_METHODS = tuple(f"{INFERENCE.full_name}/RepositoryModel{verb}" for verb in ("Load", "Unload"))


def handlers(models: Models, version: str, changes: Changes) -> Mapping[ServiceDescriptor, Mapping[str, Handler]]:
    """Return the handlers of all rpcs; `version` is the server's."""
    statistics = StatisticsOfModels()
    told, changing = ModelHandlers(models, version, statistics), RepositoryHandlers(changes)
    return {
        INFERENCE: {
            "ServerLive": told.server_live,
            "ServerReady": told.server_ready,
            "ModelReady": told.model_ready,
            "ServerMetadata": told.server_metadata,
            "ModelMetadata": told.model_metadata,
            "ModelConfig": told.model_config,
            "ModelStatistics": told.model_statistics,
            "RepositoryIndex": told.repository_index,
            "RepositoryModelLoad": changing.repository_model_load,
            "RepositoryModelUnload": changing.repository_model_unload,
            **infer.handlers(models, statistics),
        }
    }
