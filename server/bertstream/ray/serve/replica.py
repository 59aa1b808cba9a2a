"""The deployment: a replica is an embedded server, and its methods are the rpcs, by their names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import ray

from bertstream.ray.serve.autoscaling import TOKENS_WAITING
from bertstream.ray.serve.door import Door, Sent
from bertstream.ray.serve.rpcs import RPCS, Rpc
from bertstream.server.embedded import EmbeddedServer

UNHEALTHY_CHECKS = 3  # in a row without a worker, after which Ray is told that the replica is unhealthy


class Replica:
    """Serves models to Ray's proxies, with workers in processes of their own."""

    async def __init__(self, options: Mapping[str, Any]) -> None:  # type: ignore[misc]
        """Start with the options of an embedded server, and return once all models are ready."""
        self._server = EmbeddedServer(cores=assigned_cores(), **options)
        await self._server.__aenter__()
        self._door = Door(self._server.core)
        self._without_worker = 0

    async def check_health(self) -> None:
        """Raise where a model has had no worker for several checks, so that Ray replaces the replica."""
        self._without_worker = 0 if self._server.live else self._without_worker + 1
        if self._without_worker >= UNHEALTHY_CHECKS:
            raise RuntimeError("a model has no worker")

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Return what the policy of autoscaling goes by."""
        models = self._server.models
        return {TOKENS_WAITING: float(sum(each.admission.tokens + each.generation_admission.tokens for each in models))}

    async def __del__(self) -> None:
        """End the workers; Ray awaits this once no call is under way."""
        if hasattr(self, "_server"):
            await self._server.close()


def assigned_cores() -> int:
    """Return how many cores Ray has assigned to this replica (num_cpus), at least one."""
    return max(1, int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1)))


def _method_of(rpc: Rpc) -> Any:
    """Return a method that answers an rpc; Ray passes the context to a parameter of this name."""

    async def single(self: Any, request: Any, grpc_context: Any) -> Sent:
        answer: Sent = await self._door.answer(rpc.name, request, grpc_context)
        return answer

    async def stream(self: Any, request: Any, grpc_context: Any) -> AsyncIterator[Sent]:
        async for answer in self._door.stream(rpc.name, request, grpc_context):
            yield answer

    method: Any = stream if rpc.streams_answers else single
    method.__name__, method.__qualname__ = rpc.name, f"Replica.{rpc.name}"
    return method


for _rpc in RPCS:
    setattr(Replica, _rpc.name, _method_of(_rpc))
