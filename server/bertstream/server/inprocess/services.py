"""The services of bertstream.v1 for callers in the same process."""

from __future__ import annotations

from typing import NoReturn

from bertstream.server.core.errors import not_available
from bertstream.server.core.models import Models
from bertstream.server.inprocess.channel import InProcessChannel
from bertstream.server.messages import ForSupervisor
from bertstream.server.protocols.bertstream_v1.services.encoding import EncodingService
from bertstream.server.protocols.bertstream_v1.services.generation import GenerationService
from bertstream.server.protocols.bertstream_v1.services.models import ModelService
from bertstream.server.protocols.bertstream_v1.services.tasks import TaskService
from bertstream.server.protocols.bertstream_v1.services.tokenization import TokenizationService
from bertstream.server.protocols.changes import Changes
from bertstream.server.protocols.interceptors.errors import answer_errors
from bertstream.server.protocols.interceptors.links import EVERY
from bertstream.server.protocols.rpc import handlers_of
from bertstream.v1 import encoding_pb2, generation_pb2, models_pb2, tasks_pb2, tokenization_pb2

ENCODING = encoding_pb2.DESCRIPTOR.services_by_name["EncodingService"]
TOKENIZATION = tokenization_pb2.DESCRIPTOR.services_by_name["TokenizationService"]
TASKS = tasks_pb2.DESCRIPTOR.services_by_name["TaskService"]
GENERATION = generation_pb2.DESCRIPTOR.services_by_name["GenerationService"]
MODELS = models_pb2.DESCRIPTOR.services_by_name["ModelService"]


def channel_to(models: Models, version: str) -> InProcessChannel:
    """Return a channel to these models, for `AsyncClient(channel=…)` in the event loop that they are served in.

    Whoever is in the process may use all of them, so that no keys are asked for; which models there are is not changed
    by calls.
    """
    servicers = {
        ENCODING: EncodingService(models),
        TOKENIZATION: TokenizationService(models),
        GENERATION: GenerationService(models),
        MODELS: ModelService(models, version, Changes(models, _refuse, max_workers=0)),
    }
    handlers = {service: handlers_of(servicer, service) for service, servicer in servicers.items()}
    return InProcessChannel({**handlers, TASKS: TaskService(models).handlers()}, ((answer_errors, EVERY),))


async def _refuse(change: ForSupervisor) -> NoReturn:
    raise not_available("models of a process of their own are loaded when it starts", "LOADING_NOT_ALLOWED")
