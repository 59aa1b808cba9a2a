"""The rpcs that change what is served: they want an admin, and are not begun again where their answer was lost."""

from __future__ import annotations

from bertstream.v1 import models_pb2

MODEL_SERVICE = models_pb2.DESCRIPTOR.services_by_name["ModelService"]
CHANGING_METHODS = tuple(f"{MODEL_SERVICE.full_name}/{rpc}" for rpc in ("LoadModel", "UnloadModel"))
