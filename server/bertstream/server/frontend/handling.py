"""All services that serve models over gRPC, and the handlers of their rpcs."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.descriptor import ServiceDescriptor

from bertstream.server.core.models import Models
from bertstream.server.protocols.bertstream_v1.services.encoding import EncodingService
from bertstream.server.protocols.bertstream_v1.services.generation import GenerationService
from bertstream.server.protocols.bertstream_v1.services.models import ModelService
from bertstream.server.protocols.bertstream_v1.services.tasks import TaskService
from bertstream.server.protocols.bertstream_v1.services.tokenization import TokenizationService
from bertstream.server.protocols.changes import Changes
from bertstream.server.protocols.inference import served as inference
from bertstream.server.protocols.rpc import Handler, handlers_of
from bertstream.server.protocols.tei_v1 import served as tei
from bertstream.server.settings import FrontendSettings
from bertstream.v1 import encoding_pb2, generation_pb2, models_pb2, tasks_pb2, tokenization_pb2

ENCODING = encoding_pb2.DESCRIPTOR.services_by_name["EncodingService"]
TOKENIZATION = tokenization_pb2.DESCRIPTOR.services_by_name["TokenizationService"]
TASKS = tasks_pb2.DESCRIPTOR.services_by_name["TaskService"]
GENERATION = generation_pb2.DESCRIPTOR.services_by_name["GenerationService"]
MODELS = models_pb2.DESCRIPTOR.services_by_name["ModelService"]
OWN = (ENCODING, TOKENIZATION, TASKS, GENERATION, MODELS)
DESCRIPTORS = (*OWN, *inference.SERVICES, *tei.SERVICES)
NEED_WORKERS = frozenset((ENCODING, TASKS, GENERATION, *inference.NEED_WORKERS, *tei.NEED_WORKERS))
SERVICES = tuple(service.full_name for service in DESCRIPTORS)
Handlers = Mapping[ServiceDescriptor, Mapping[str, Handler]]  # by the rpc's name


def own_handlers(models: Models, settings: FrontendSettings, changes: Changes) -> Handlers:
    """Return the handlers of `bertstream.v1`."""
    servicers = {
        ENCODING: EncodingService(models),
        TOKENIZATION: TokenizationService(models),
        GENERATION: GenerationService(models),
        MODELS: ModelService(models, settings.version, changes),
    }
    own = {service: handlers_of(servicer, service) for service, servicer in servicers.items()}
    return {**own, TASKS: TaskService(models).handlers()}


def all_handlers(models: Models, settings: FrontendSettings, changes: Changes) -> Handlers:
    """Return the handlers of `bertstream.v1` and of other servers' interfaces."""
    return {
        **own_handlers(models, settings, changes),
        **inference.handlers(models, settings.version, changes),
        **tei.handlers(models, settings.version, settings.tokenizer_threads),
    }
