"""Tell what the server and its models are, and whether they can compute."""

from __future__ import annotations

from bertstream.server.core.errors import RequestError
from bertstream.server.core.models import Models
from bertstream.server.protocols.call import Call
from bertstream.server.protocols.decoding import Decoded
from bertstream.server.protocols.inference import inference_pb2 as pb
from bertstream.server.protocols.inference.choosing import VERSION, checked, choose
from bertstream.server.protocols.inference.describing import BACKEND, config_of, metadata_of
from bertstream.server.protocols.inference.statistics import StatisticsOfModels

# Those of Triton's extensions that are there, by the names that its server gives them.
EXTENSIONS = ("classification", "model_repository", "model_configuration", "binary_tensor_data", "statistics")


class ModelHandlers:
    """Answer all rpcs that compute and change nothing."""

    def __init__(self, models: Models, version: str, statistics: StatisticsOfModels) -> None:
        self._models = models
        self._version = version
        self._statistics = statistics

    async def server_live(self, request: Decoded[pb.ServerLiveRequest], call: Call) -> pb.ServerLiveResponse:
        request.value()
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, request: Decoded[pb.ServerReadyRequest], call: Call) -> pb.ServerReadyResponse:
        request.value()
        usable = [model for model in self._models if call.caller.may_use(model.name)]
        return pb.ServerReadyResponse(ready=all(model.dispatcher.live for model in usable))

    async def model_ready(self, request: Decoded[pb.ModelReadyRequest], call: Call) -> pb.ModelReadyResponse:
        message = checked(request)
        try:
            model = choose(self._models, message.name, message.version, call)
        except RequestError as error:
            if error.reason == "MODEL_NOT_FOUND":
                return pb.ModelReadyResponse(ready=False)
            raise
        return pb.ModelReadyResponse(ready=bool(model.dispatcher.live))

    async def server_metadata(
        self, request: Decoded[pb.ServerMetadataRequest], call: Call
    ) -> pb.ServerMetadataResponse:
        request.value()
        return pb.ServerMetadataResponse(name=BACKEND, version=self._version, extensions=EXTENSIONS)

    async def model_metadata(self, request: Decoded[pb.ModelMetadataRequest], call: Call) -> pb.ModelMetadataResponse:
        message = checked(request)
        return metadata_of(choose(self._models, message.name, message.version, call))

    async def model_config(self, request: Decoded[pb.ModelConfigRequest], call: Call) -> pb.ModelConfigResponse:
        message = checked(request)
        return pb.ModelConfigResponse(config=config_of(choose(self._models, message.name, message.version, call)))

    async def model_statistics(
        self, request: Decoded[pb.ModelStatisticsRequest], call: Call
    ) -> pb.ModelStatisticsResponse:
        message = checked(request)
        usable = [model for model in self._models if call.caller.may_use(model.name)]
        listed = [choose(self._models, message.name, message.version, call)] if message.name else usable
        return pb.ModelStatisticsResponse(
            model_stats=[self._statistics.of(model).message(model.name, VERSION) for model in listed]
        )

    async def repository_index(
        self, request: Decoded[pb.RepositoryIndexRequest], call: Call
    ) -> pb.RepositoryIndexResponse:
        message = checked(request)
        listed = [
            pb.RepositoryIndexResponse.ModelIndex(
                name=model.name,
                version=VERSION,
                state="READY" if model.dispatcher.live else "UNAVAILABLE",
                reason="" if model.dispatcher.live else "no worker is alive",
            )
            for model in self._models
            if call.caller.may_use(model.name)
        ]
        return pb.RepositoryIndexResponse(
            models=[each for each in listed if each.state == "READY" or not message.ready]
        )
