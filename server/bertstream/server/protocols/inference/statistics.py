"""Count the requests of each model, and what they took."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from bertstream.server.core.dispatch import Outcome
from bertstream.server.core.errors import RequestError
from bertstream.server.core.models import ServedModel
from bertstream.server.protocols.inference import inference_pb2


@dataclass(slots=True)
class Duration:
    """Count how often something was done, and how long it took in all."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one more."""
        self.count += 1
        self.seconds += seconds

    def message(self) -> inference_pb2.StatisticDuration:
        """Return it as the protocol has it."""
        return inference_pb2.StatisticDuration(count=self.count, ns=int(self.seconds * 1e9))


@dataclass(slots=True)
class Statistics:
    """Count the requests of one model."""

    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    tokenize: Duration = field(default_factory=Duration)
    compute: Duration = field(default_factory=Duration)
    write: Duration = field(default_factory=Duration)
    texts: int = 0
    executions: int = 0
    last: float = 0.0  # time.time(), of when the last request came

    def came(self) -> None:
        """Note that a request has come."""
        self.last = time.time()

    @contextmanager
    def failing(self, since: float) -> Iterator[None]:
        """Count a request as failed where the body raises; it came at `since`, of time.monotonic()."""
        try:
            yield
        except RequestError:
            self.fail.add(time.monotonic() - since)
            raise

    def answered(self, texts: int, tokenize: float, outcomes: Sequence[Outcome], write: float, total: float) -> None:
        """Count a request that was answered; times are in seconds."""
        self.texts += texts
        self.executions += len(outcomes)
        self.success.add(total)
        self.tokenize.add(tokenize)
        self.queue.add(max((outcome.queue_seconds for outcome in outcomes), default=0.0))
        self.compute.add(max((outcome.compute_seconds for outcome in outcomes), default=0.0))
        self.write.add(write)

    def message(self, name: str, version: str) -> inference_pb2.ModelStatistics:
        """Return them as the protocol has them."""
        return inference_pb2.ModelStatistics(
            name=name,
            version=version,
            last_inference=int(self.last * 1e3),
            inference_count=self.texts,
            execution_count=self.executions,
            inference_stats=inference_pb2.InferStatistics(
                success=self.success.message(),
                fail=self.fail.message(),
                queue=self.queue.message(),
                compute_input=self.tokenize.message(),
                compute_infer=self.compute.message(),
                compute_output=self.write.message(),
            ),
        )


class StatisticsOfModels:
    """Keep the statistics of models while they are served: a model that is loaded anew begins at zero."""

    def __init__(self) -> None:
        self._of: WeakKeyDictionary[ServedModel, Statistics] = WeakKeyDictionary()

    def of(self, model: ServedModel) -> Statistics:
        """Return those of a model."""
        return self._of.setdefault(model, Statistics())
