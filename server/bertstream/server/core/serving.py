"""What serves models in one process, whatever doors lead to it: the models, who may call, and what is counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bertstream.server.core.gate import Gate
from bertstream.server.core.keys import Keys
from bertstream.server.core.models import Models
from bertstream.server.core.quotas import SharedCounts
from bertstream.server.core.versions import Versions
from bertstream.server.settings import FrontendSettings, ModelSettings
from bertstream.workers.measuring.instruments import Registry


class ServingCore:
    """The models of one process, with all that calls by any protocol share; it belongs to the running event loop."""

    def __init__(self, settings: FrontendSettings, on_change: Callable[[], None]) -> None:
        """Take the settings, and what is called whenever a model gets its first worker or loses its last one."""
        self.settings = settings
        # Messages of many texts leave one thread free for others.
        self.threads = ThreadPoolExecutor(settings.tokenizer_threads + 1, "tokenizer")
        self.gate = Gate(settings.limits.concurrent_calls)
        self.registry = Registry()
        self.versions = Versions(settings, self.threads, on_change, self.registry)
        self.keys = keys_of(settings)

    @property
    def models(self) -> Models:
        """The models that are served."""
        return self.versions.models

    @property
    def live(self) -> bool:
        """Whether each model has a worker."""
        return all(model.dispatcher.live for model in self.models)

    async def serve(self, models: Sequence[ModelSettings]) -> None:
        """Serve just these models, once all of their workers have greeted."""
        await self.versions.serve(models)

    async def drain(self, tell: Callable[[int], None]) -> None:
        """Let no more calls begin, and return once none is under way, or after the seconds of a drain.

        tell: is told how many are under way, now and whenever one ends.
        """
        self.gate.close(tell)
        await self.gate.wait_empty(self.settings.drain_seconds)

    async def close(self) -> None:
        """Drop the connections to all workers."""
        await self.versions.close()

    def end_threads(self) -> None:
        """Let the tokenizing threads end; whatever still waits for one of them is cancelled."""
        self.threads.shutdown(wait=False, cancel_futures=True)


def keys_of(settings: FrontendSettings) -> Keys:
    """Return the keys that this frontend begins with, with the counts that it shares with other frontends."""
    if settings.keys is None:
        return Keys()
    return Keys(settings.keys.keys, SharedCounts(Path(settings.keys.counts), settings.frontends, settings.number))
