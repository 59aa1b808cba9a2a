# ruff: noqa: N802 - rpcs are named as in the .proto files
"""A small server with simple, deterministic answers and failures on demand, for tests of the client without a model."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import grpc
from google.rpc import status_pb2

from bertstream.client._calls.health import OPEN_SERVICE, check_request
from bertstream.v1 import encoding_pb2 as encoding
from bertstream.v1 import encoding_pb2_grpc as encoding_grpc
from bertstream.v1 import generation_pb2_grpc as generation_grpc
from bertstream.v1 import models_pb2 as models
from bertstream.v1 import models_pb2_grpc as models_grpc
from bertstream.v1 import tasks_pb2 as tasks
from bertstream.v1 import tasks_pb2_grpc as tasks_grpc
from bertstream.v1 import tokenization_pb2 as tokenization
from bertstream.v1 import tokenization_pb2_grpc as tokenization_grpc
from bertstream.v1 import types_pb2 as types
from tests.client.fake_encodings import (
    HEADS,
    HIDDEN,
    LAYERS,
    Spans,
    cost,
    encodings,
    keys_of,
    layer_rows,
    parts,
    spans_of,
    split,
    spoil,
    tokens,
    vectors,
    with_layers,
)
from tests.client.fake_generation import FakeGeneration
from tests.client.fake_status import PATIENCE, abort, refuse_bad
from tests.client.fake_status import Code as Code
from tests.client.fake_status import status as status
from tests.client.fake_tasks import FakeTasks, choice_keys

DRAINING_SECONDS = 60.0  # after which a server that drains may be asked again


def model_message(name: str = "tiny", **limits: int) -> models.Model:
    """Return the only model."""
    values = {"max_texts": 128, "max_request_bytes": 1 << 21, "max_response_bytes": 1 << 22, **limits}
    message = models.Model(name=name, revision="abc", family="bert", architecture="BertModel", layers=LAYERS)
    message.hidden_size, message.attention_heads, message.vocabulary_size = HIDDEN, HEADS, 1000
    message.type_vocabulary_size, message.max_tokens, message.default_max_length = 2, 64, 32
    message.has_pooler, message.compute_type, message.device = True, types.DATA_TYPE_FLOAT32, "cpu"
    message.workers = message.live_workers = 2
    pooling = message.default_pooling
    pooling.mode, pooling.layer_combination = encoding.POOLING_MODE_MEAN, encoding.LAYER_COMBINATION_MEAN
    pooling.normalize = True
    pooling.layers.append(-1)
    message.prompts["query"], message.default_prompt_name = "query: ", "query"
    message.special_tokens.add(role="cls", token="[CLS]", id=1)
    message.outputs.extend(encoding.EncodingOutput.values()[1:])
    message.precision_test.max_abs_difference, message.precision_test.min_cosine = 0.25, 0.5
    message.heads.append("fill_mask")
    message.labels.extend(["negative", "neutral", "positive"])
    message.limits.CopyFrom(models.ModelLimits(stream_window=types.StreamWindow(max_items=256), **values))
    message.warnings.append("tiny")
    return message


@dataclass
class Behaviour:
    """How the server is to behave."""

    failures: deque[status_pb2.Status] = field(default_factory=deque)  # failures of the next unary calls, one for each
    breaks: deque[tuple[int, status_pb2.Status]] = field(
        default_factory=deque
    )  # of streams, with the number of answers before each
    refused_items: int = 0  # so many of the next items of streams are refused for now
    window: int = 256
    split_rows: int = 0  # rows of states or attentions per message
    # The last layer of StreamLayers, and the second piece of StreamGeneration, wait until this is set.
    layer_gate: threading.Event | None = None
    hold_first: int = 0  # the first item is answered after this many others
    reverse: bool = False  # the answer to a message comes in two, last items first
    stall: threading.Event | None = None  # all answers wait until this is set
    health: int = 1
    health_needs_key: bool = False
    draining: bool = False  # all calls are refused, and health says so
    model: models.Model = field(default_factory=model_message)
    bad_answer: bool = False
    broken_part: str = ""  # what is wrong with the parts of a text, see spoil()
    break_parts: int = 0  # the next break comes before this message of a text in parts


@dataclass
class Seen:
    """What the server has received."""

    rpcs: Counter[str] = field(default_factory=Counter)
    requests: list[Any] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)
    most_under_way: int = 0
    metadata: dict[str, Any] = field(default_factory=dict)
    cancelled: threading.Event = field(default_factory=threading.Event)
    peers: set[str] = field(default_factory=set)
    deadlines: list[float | None] = field(default_factory=list)
    messages: int = 0  # messages with items, of streams
    options: encoding.EncodingOptions | None = None  # of the last StreamEncodings
    task: Any = None  # the options in effect of the last StreamPredictions or StreamGeneratedTexts
    pieces: int = 0  # of StreamGeneration, as they were made
    spans: dict[str, Spans] = field(default_factory=dict)
    unit: int = 0
    layers: list[tuple[int, int]] = field(default_factory=list)  # StreamLayers: text and layer, as they were computed

    async def call_of(self, rpc: str) -> None:
        """Wait until a call of this rpc has come in, however long the first of a process takes."""

        def wait() -> None:
            while not self.rpcs[rpc]:
                time.sleep(0.01)

        await asyncio.to_thread(wait)


class FakeServer(
    FakeGeneration,
    FakeTasks,
    encoding_grpc.EncodingServiceServicer,
    models_grpc.ModelServiceServicer,
    tokenization_grpc.TokenizationServiceServicer,
):
    """A server on a free port of 127.0.0.1."""

    def __init__(self, port: int = 0, credentials: grpc.ServerCredentials | None = None) -> None:
        self.does, self.seen, self._entering = Behaviour(), Seen(), threading.Lock()
        self.server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", 4 << 20)])
        encoding_grpc.add_EncodingServiceServicer_to_server(self, self.server)
        generation_grpc.add_GenerationServiceServicer_to_server(self, self.server)
        models_grpc.add_ModelServiceServicer_to_server(self, self.server)
        tasks_grpc.add_TaskServiceServicer_to_server(self, self.server)
        tokenization_grpc.add_TokenizationServiceServicer_to_server(self, self.server)
        health = grpc.method_handlers_generic_handler(
            "grpc.health.v1.Health",
            {
                "Check": grpc.unary_unary_rpc_method_handler(self.check),
                "Watch": grpc.unary_stream_rpc_method_handler(self.watch),
            },
        )
        self.server.add_generic_rpc_handlers((health,))
        asked = f"127.0.0.1:{port}"
        add = self.server.add_insecure_port
        self.port = self.server.add_secure_port(asked, credentials) if credentials else add(asked)
        self.address = f"127.0.0.1:{self.port}"
        self.server.start()

    def close(self) -> None:
        for gate in (self.does.stall, self.does.layer_gate):
            if gate:
                gate.set()
        self.server.stop(0).wait()

    def stalled(self) -> None:
        """Wait while all answers do."""
        if gate := self.does.stall:  # which a test may take away meanwhile
            gate.wait(PATIENCE)

    def at_the_gate(self) -> None:
        """Wait while the last layer, or the second piece, does."""
        if gate := self.does.layer_gate:
            gate.wait(PATIENCE)

    def check(self, request: bytes, context: Any) -> bytes:
        self._enter("Check", request, context)
        if request == check_request(OPEN_SERVICE):
            return bytes([8, 2 if self.does.draining else 1])
        if request not in (b"", b"\x0a\x04tiny"):
            abort(context, status(Code.NOT_FOUND, "no such service"))
        return bytes([8, self.does.health])

    def watch(self, request: bytes, context: Any) -> NoReturn:
        code = Code.UNAUTHENTICATED if self.does.health_needs_key else Code.UNIMPLEMENTED
        abort(context, status(code, "no watching"))

    def ListModels(self, request: Any, context: Any) -> models.ListModelsResponse:
        self._enter("ListModels", request, context)
        return models.ListModelsResponse(models=[self.does.model], server_version="1.2.3")

    def GetModel(self, request: Any, context: Any) -> models.GetModelResponse:
        self._enter("GetModel", request, context)
        if request.name not in ("", self.does.model.name):
            abort(context, status(Code.NOT_FOUND, f"no model {request.name!r}", "MODEL_NOT_FOUND"))
        return models.GetModelResponse(model=self.does.model)

    def LoadModel(self, request: Any, context: Any) -> models.LoadModelResponse:
        self._enter("LoadModel", request, context)
        self.does.model.name = request.name
        self.does.model.compute_type = request.compute_type or types.DATA_TYPE_FLOAT32
        return models.LoadModelResponse(model=self.does.model)

    def UnloadModel(self, request: Any, context: Any) -> models.UnloadModelResponse:
        self._enter("UnloadModel", request, context)
        if request.name != self.does.model.name:
            abort(context, status(Code.NOT_FOUND, f"no model {request.name!r}", "MODEL_NOT_FOUND"))
        return models.UnloadModelResponse()

    def EncodeTexts(self, request: Any, context: Any) -> encoding.EncodeTextsResponse:
        self._enter("EncodeTexts", request, context)
        keys = keys_of(request.inputs)
        refuse_bad(keys, context)
        self.stalled()
        answer = encoding.EncodeTextsResponse(encodings=encodings(keys, request.options, spans_of(request.spans)))
        answer.options.CopyFrom(with_layers(request.options))
        cost(answer, len(keys), sum(map(len, keys)))
        if self.does.bad_answer:
            answer.encodings.pooled.data = b"123"
        return answer

    def TokenizeTexts(self, request: Any, context: Any) -> tokenization.TokenizeTextsResponse:
        self._enter("TokenizeTexts", request, context)
        keys = keys_of(request.inputs)
        refuse_bad(keys, context)
        columns = _tokenizations(keys, request.options)
        answer = tokenization.TokenizeTextsResponse(options=request.options, tokenizations=columns)
        cost(answer, len(keys), sum(columns.lengths))
        return answer

    def DetokenizeTokens(self, request: Any, context: Any) -> tokenization.DetokenizeTokensResponse:
        self._enter("DetokenizeTokens", request, context)
        ids = split(list(request.token_ids.token_ids), request.token_ids.lengths)
        skip = {1, 2} if request.skip_special_tokens else set()
        texts = [" ".join(str(number) for number in row if number not in skip) for row in ids]
        return tokenization.DetokenizeTokensResponse(texts=texts)

    def StreamEncodings(self, requests: Any, context: Any) -> Iterator[encoding.StreamEncodingsResponse]:
        self._enter("StreamEncodings", None, context)
        self.seen.options = options = next(requests).options
        window = types.StreamWindow(max_items=self.does.window)
        started = encoding.EncodingStarted(options=with_layers(options), window=window)
        yield encoding.StreamEncodingsResponse(started=started)
        for ids, keys, errors in self._answers(requests, context):
            spans = [self.seen.spans.get(key, []) for key in keys]
            for number, part in enumerate(parts(ids, keys, options, spans, self.does.split_rows), 1):
                if number == self.does.break_parts:
                    self.does.break_parts = 0
                    abort(context, self.does.breaks.popleft()[1])
                spoil(part, self.does.broken_part)
                yield encoding.StreamEncodingsResponse(items=part)
            if errors:
                yield encoding.StreamEncodingsResponse(items=encoding.EncodedItems(errors=errors))

    def StreamLayers(self, request: Any, context: Any) -> Iterator[encoding.StreamLayersResponse]:
        self._enter("StreamLayers", request, context)
        keys, options = keys_of(request.inputs), with_layers(request.options)
        refuse_bad(keys, context)
        limit, failure = self.does.breaks.popleft() if self.does.breaks else (None, None)
        for number, response in enumerate(self._layers(keys, options, request)):
            if failure and number == limit:
                abort(context, failure)
            yield response

    def _layers(
        self, keys: list[str], options: encoding.EncodingOptions, request: Any
    ) -> Iterator[encoding.StreamLayersResponse]:
        counts = list(map(len, keys))
        started = encoding.LayersStarted(options=options, token_counts=counts, tokens=tokens(keys))
        yield encoding.StreamLayersResponse(started=started)
        for text, key in enumerate(keys):
            for rows in layer_rows(key, text, options, self.does.split_rows):
                if rows.layer == LAYERS:
                    self.at_the_gate()
                self.seen.layers.append((text, rows.layer))
                yield encoding.StreamLayersResponse(rows=rows)
        completed = encoding.LayersCompleted(encodings=vectors(keys, options, spans_of(request.spans)))
        cost(completed, len(keys), sum(counts))
        if not self.does.bad_answer:
            yield encoding.StreamLayersResponse(completed=completed)

    def StreamTokenizations(self, requests: Any, context: Any) -> Iterator[tokenization.StreamTokenizationsResponse]:
        self._enter("StreamTokenizations", None, context)
        options = next(requests).options
        window = types.StreamWindow(max_items=self.does.window)
        started = tokenization.TokenizationStarted(options=options, window=window)
        yield tokenization.StreamTokenizationsResponse(started=started)
        for ids, keys, errors in self._answers(requests, context):
            columns = _tokenizations(keys, options)
            items = tokenization.TokenizedItems(ids=ids, tokenizations=columns, errors=errors)
            cost(items, len(ids), sum(columns.lengths))
            yield tokenization.StreamTokenizationsResponse(items=items)

    def _enter(self, rpc: str, request: Any, context: Any) -> None:
        with self._entering:  # since calls come in several threads
            self.seen.rpcs[rpc] += 1
        self.seen.requests.append(request)
        self.seen.metadata = dict(context.invocation_metadata())
        self.seen.peers.add(context.peer())
        self.seen.deadlines.append(context.time_remaining())
        if rpc.startswith("Stream") and not context.add_callback(self.seen.cancelled.set):
            self.seen.cancelled.set()  # over before it began
        if self.does.draining and rpc != "Check":
            told = "the server is shutting down", "DRAINING"
            abort(context, status(Code.UNAVAILABLE, *told, retry_seconds=DRAINING_SECONDS))
        if not rpc.startswith("Stream") and self.does.failures:
            abort(context, self.does.failures.popleft())

    def _answers(self, requests: Any, context: Any) -> Iterator[tuple[list[int], list[str], list[types.ItemError]]]:
        breaks = self.does.breaks and not self.does.break_parts
        limit, failure = self.does.breaks.popleft() if breaks else (None, None)
        answered = 0
        for items in self._held_back(requests):
            self.stalled()
            for ids, keys in self._turned(items):
                if failure and limit is not None and answered + len(ids) > limit:
                    abort(context, failure)
                answered += len(ids)
                refused = ids[: self.does.refused_items]
                self.does.refused_items -= len(refused)
                ids, keys = ids[len(refused) :], keys[len(refused) :]
                self.seen.answered.update(keys)
                good = [(item, key) for item, key in zip(ids, keys, strict=True) if "bad" not in key]
                errors = [_item_error(item) for item, key in zip(ids, keys, strict=True) if "bad" in key]
                errors += [types.ItemError(id=item, status=_NOT_NOW) for item in refused]
                yield [item for item, _ in good], [key for _, key in good], errors
        if failure:
            abort(context, failure)

    def _held_back(self, requests: Any) -> Iterator[list[tuple[int, str]]]:
        """Yield messages as lists of (id, key), with the first item late."""
        held: list[tuple[int, str]] = []
        others = received = given = 0
        for request in requests:
            message = request.items
            has_choices = isinstance(message, tasks.PredictionItems) and message.HasField("choices")
            keys = choice_keys(message.choices) if has_choices else keys_of(message.inputs)
            ids = list(message.ids) or range(message.first_id, message.first_id + len(keys))
            pairs = list(zip(ids, keys, strict=True))
            if isinstance(message, encoding.EncodingItems) and message.HasField("spans"):
                self.seen.unit = message.spans.unit
                self.seen.spans |= zip(keys, spans_of(message.spans), strict=True)
            received += len(pairs)
            self.seen.messages += 1
            self.seen.most_under_way = max(self.seen.most_under_way, received - given)
            if self.does.hold_first and not held and not others:
                held.append(pairs.pop(0))
            others += len(pairs)
            given += len(pairs)
            yield pairs
            if held and others >= self.does.hold_first:
                given += 1
                yield [held.pop()]
        if held:
            yield held

    def _turned(self, items: list[tuple[int, str]]) -> Iterator[tuple[list[int], list[str]]]:
        half = len(items) // 2
        for part in [items[half:][::-1], items[:half][::-1]] if self.does.reverse else [items]:
            if part:
                yield [item for item, _ in part], [key for _, key in part]


@contextmanager
def held(*servers: FakeServer, until: Callable[[], object]) -> Iterator[None]:
    """Have servers answer nothing until a condition holds, such as that they have seen a client's calls."""
    gate = threading.Event()

    def release() -> None:
        end = time.monotonic() + PATIENCE
        while not (gate.is_set() or until() or time.monotonic() > end):
            time.sleep(0.005)
        gate.set()

    for each in servers:
        each.does.stall = gate
    releasing = threading.Thread(target=release)
    releasing.start()
    try:
        yield
    finally:
        gate.set()
        releasing.join()


def _tokenizations(keys: list[str], options: tokenization.TokenizationOptions) -> tokenization.Tokenizations:
    """Return tokens, one for each character of a key, between the special tokens 1 and 2, in windows of max_length."""
    answer = tokenization.Tokenizations()
    for index, key in enumerate(keys):
        room = (options.truncation.max_length or 1000) - 2
        starts = range(0, max(len(key), 1), room) if options.overflowing_windows else (0,)
        for start in starts:
            window = key[start : start + room]
            spans = [(0, 0), *((start + i, start + i + 1) for i in range(len(window))), (0, 0)]
            answer.token_ids.extend([1, *map(ord, window), 2])
            answer.lengths.append(len(spans))
            answer.tokens.extend(["[CLS]", *window, "[SEP]"])
            answer.starts.extend(span[0] for span in spans)
            answer.ends.extend(span[1] for span in spans)
            answer.token_type_ids.extend([0] * len(spans))
            answer.special_tokens_mask.extend([True, *[False] * len(window), True])
            answer.word_ids.extend([-1, *range(len(window)), -1])
            answer.sequence_ids.extend([-1, *[0] * len(window), -1])
            if options.overflowing_windows:
                answer.text_indexes.append(index)
    return answer


_NOT_NOW = status(Code.UNAVAILABLE, "no worker is alive", "WORKER_LOST", retry_seconds=0.05)


def _item_error(item: int) -> types.ItemError:
    failure = status(Code.INVALID_ARGUMENT, "a bad text", "INVALID_TEXT", (("inputs.texts", "bad"),))
    return types.ItemError(id=item, status=failure)
