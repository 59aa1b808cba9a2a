"""TaskService over a real connection, with a dispatcher that makes up its numbers from the rows' ids."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import grpc
import grpc.aio
import numpy as np
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from numpy.typing import NDArray

from bertstream.server.core import errors
from bertstream.server.core.admission import Admission
from bertstream.server.core.callers import Caller
from bertstream.server.core.dispatch import Job, Outcome, cut
from bertstream.server.core.gate import Gate
from bertstream.server.core.models import Models
from bertstream.server.frontend.links import chain
from bertstream.server.protocols.bertstream_v1.services.tasks import TaskService
from bertstream.server.protocols.rpc import add_service
from bertstream.v1 import tasks_pb2
from bertstream.workers.contract import Batch, OutputOptions
from tests.server.core.tasks.stubs import StubModel
from tests.support.paying import OneCaller, Purse

SERVICE = tasks_pb2.DESCRIPTOR.services_by_name["TaskService"]
Made = TypeVar("Made")
Response = TypeVar("Response", bound=Message)


class MadeUp:
    """A dispatcher without workers, in which only the rows that have the id `killer` fail."""

    def __init__(self, labels: int) -> None:
        self.labels = labels
        self.killer = -1
        self.piece_tokens = 64
        self.jobs: list[Job] = []
        self.error: errors.RequestError | None = None

    async def run(self, job: Job) -> list[Outcome]:
        self.jobs.append(job)
        await asyncio.sleep(0)
        found = []
        for start, batch in cut(job.batch, self.piece_tokens):
            texts = int(batch.lengths.size)
            if self.error is not None or self.killer in batch.ids:
                found += [self._alone(start + i, each, job.output_options) for i, each in cut(batch, 1)]
            else:
                found.append(Outcome(start, texts, self.tensors(batch, job.output_options), None, 0.25, 0.5))
        return found

    def _alone(self, start: int, batch: Batch, output_options: OutputOptions) -> Outcome:
        error = self.error or (errors.poisonous(3) if self.killer in batch.ids else None)
        return Outcome(start, 1, {} if error else self.tensors(batch, output_options), error, 0.25, 0.5)

    def tensors(self, batch: Batch, output_options: OutputOptions) -> Mapping[str, NDArray[Any]]:
        """Return tensors as the contract asks of workers."""
        head = output_options.head
        assert head is not None
        if output_options.outputs == ("label_scores",):
            scores = made_up_scores(batch, self.labels)
            if not head.top_k:
                return {"label_scores": scores}
            order = np.argsort(-scores, axis=1, kind="stable")[:, : head.top_k].astype(np.int32)
            return {"label_scores.ids": order, "label_scores.scores": np.take_along_axis(scores, order.astype(int), 1)}
        if output_options.outputs == ("sparse_weights",):
            rows = [np.unique(ids) for ids in np.split(batch.ids, np.cumsum(batch.lengths)[:-1])]
            ids = np.concatenate([row[: head.top_k or None] for row in rows])
            counts = np.array([row[: head.top_k or None].size for row in rows], np.int32)
            named = {"counts": counts, "ids": ids, "weights": (ids / 64).astype(np.float32)}
            return {f"sparse_weights.{name}": values for name, values in named.items()}
        assert batch.spans is not None
        if output_options.outputs == ("token_log_probabilities",):
            assert batch.spans.ids is not None
            return {"token_log_probabilities": (-batch.spans.ids / 64).astype(np.float32)}
        count = int(batch.spans.counts.sum())
        ids = np.tile(np.arange(20, 20 + head.top_k, dtype=np.int32), (count, 1))
        scores = np.tile(0.5 / np.arange(1, head.top_k + 1, dtype=np.float32), (count, 1))
        return {"mask_candidates.ids": ids, "mask_candidates.scores": scores}


def made_up_scores(batch: Batch, labels: int) -> NDArray[np.float32]:
    """Return scores that depend on the sum of each row's ids, [n, labels]."""
    sums = np.add.reduceat(batch.ids, np.cumsum(batch.lengths) - batch.lengths)
    scores: NDArray[np.float32] = np.sin(sums[:, None] * 0.7 + np.arange(labels)).astype(np.float32)
    return scores


class Served:
    """The served model, as the service sees it, and a client of the service, for the test."""

    def __init__(self, stub: StubModel) -> None:
        self.name, self.description, self.limits, self.tokenizer = (
            stub.name,
            stub.description,
            stub.limits,
            stub.tokenizer,
        )
        self.admission = Admission(1 << 22)
        self.purse = Purse()  # shared by all callers
        self.dispatcher = MadeUp(len(stub.description.labels))
        self.channel: grpc.aio.Channel

    def check_room(self, caller: Caller, deadline: float) -> None:
        self.admission.check(caller)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        yield

    async def in_thread(self, function: Callable[[], Made], *, many: bool = False) -> Made:
        return await asyncio.to_thread(function)

    async def call(self, rpc: str, request: Message | bytes, response: type[Response]) -> Response:
        """Make a unary call."""
        method: Any = self.channel.unary_unary(
            f"/bertstream.v1.TaskService/{rpc}",
            request_serializer=_serialized,
            response_deserializer=response.FromString,
        )
        answer: Response = await method(request)
        return answer

    async def stream(
        self, *requests: tasks_pb2.StreamPredictionsRequest | bytes
    ) -> list[tasks_pb2.StreamPredictionsResponse]:
        """Send these requests in one stream, and return all its answers."""
        method: Any = self.channel.stream_stream(
            "/bertstream.v1.TaskService/StreamPredictions",
            request_serializer=_serialized,
            response_deserializer=tasks_pb2.StreamPredictionsResponse.FromString,
        )

        async def sent() -> AsyncIterator[Any]:
            for each in requests:
                yield each

        return [each async for each in method(sent())]


def _serialized(message: Message | bytes) -> bytes:
    return message if isinstance(message, bytes) else message.SerializeToString()


@asynccontextmanager
async def serving(stub: StubModel) -> AsyncIterator[Served]:
    """Serve one model while the body runs."""
    served = Served(stub)
    server = grpc.aio.server(interceptors=(chain(Gate(100), OneCaller(served.purse)),))
    model: Any = served
    add_service(server, SERVICE, TaskService(Models([model])).handlers(), 1 << 24)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    options = [("grpc.max_receive_message_length", -1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        served.channel = channel
        yield served
    await server.stop(None)


def details(error: grpc.aio.AioRpcError) -> tuple[str, str, list[str]]:
    """Return the code, the reason, and all fields at fault."""
    trailing: Any = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
    return error.code().name, *reason_and_fields(status)


def reason_and_fields(status: status_pb2.Status) -> tuple[str, list[str]]:
    info, fields = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for each in status.details:
        each.Unpack(info)
        each.Unpack(fields)
    return info.reason, [violation.field for violation in fields.field_violations]
