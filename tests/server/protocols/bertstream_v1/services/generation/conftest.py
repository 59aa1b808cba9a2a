"""GenerationService over a real connection, of models whose workers generate what the test has scripted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from bertstream.server.core.dispatch import link as link_module
from bertstream.server.core.gate import Gate
from bertstream.server.core.models import Models, ServedModel
from bertstream.server.frontend.links import chain
from bertstream.server.protocols.bertstream_v1.services.generation import GenerationService
from bertstream.server.protocols.bertstream_v1.services.models import describe
from bertstream.server.protocols.rpc import add_service, handlers_of
from bertstream.server.settings import FrontendSettings, Limits, ModelSettings
from bertstream.v1 import generation_pb2 as g
from bertstream.v1 import models_pb2, types_pb2
from bertstream.v1.generation_pb2_grpc import GenerationServiceStub
from bertstream.workers.programs.description import GenerationDescription
from bertstream.workers.trust.seal import seal
from tests.server.protocols.bertstream_v1.validation.support import description
from tests.support.fake_worker import FakeWorker
from tests.support.paying import OneCaller, Purse

SERVICE = g.DESCRIPTOR.services_by_name["GenerationService"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "sat", "run", "##ning", "##s", ".", ",", "stop", "now", "一"]
ID = {word: id for id, word in enumerate(WORDS)}
LIMITS = Limits(8, 1 << 20, 1 << 20, 4000, 16, 400, 1 << 20, 64)


def wordpiece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(ID, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.add_special_tokens(WORDS[:4])
    return tokenizer


def byte_level() -> Tokenizer:
    """Return a tokenizer of bytes, after <s> and </s>: an ASCII letter is a token, other characters are several."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: id for id, piece in enumerate(["<s>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
    tokenizer.add_special_tokens(["<s>", "</s>"])
    return tokenizer


class Served:
    """A client of the service, and the worker behind it."""

    def __init__(self, model: ServedModel, purse: Purse, worker: FakeWorker, stub: Any) -> None:
        self.model = model
        self.purse = purse  # shared by all callers
        self.worker = worker
        self.stub = stub

    @property
    def described(self) -> models_pb2.Model:
        return describe(self.model)

    async def generate(self, *texts: str, **options: Any) -> g.GenerateTextsResponse:
        """Make a unary call."""
        inputs = types_pb2.TextBatch(texts=types_pb2.Texts(texts=texts))
        return await self.send(inputs, **options)

    async def send(self, inputs: types_pb2.TextBatch, **options: Any) -> g.GenerateTextsResponse:
        request = g.GenerateTextsRequest(options=g.GenerationOptions(**options), inputs=inputs)
        response: g.GenerateTextsResponse = await self.stub.GenerateTexts(request, timeout=60)
        return response

    def stream(self, text: str, **options: Any) -> Any:
        """Begin a server-streaming call."""
        inputs = types_pb2.TextBatch(texts=types_pb2.Texts(texts=[text]))
        request = g.StreamGenerationRequest(options=g.GenerationOptions(**options), inputs=inputs)
        return self.stub.StreamGeneration(request, timeout=60)

    async def bulk(self, **options: Any) -> Any:
        """Begin a bidirectional call, and send its options."""
        call = self.stub.StreamGeneratedTexts(timeout=60)
        await call.write(g.StreamGeneratedTextsRequest(options=g.GenerationOptions(**options)))
        return call

    @property
    def sent(self) -> list[list[int]]:
        """The ids of the prompts that the worker got."""
        return [work.ids.tolist() for work in self.worker.generations]


Serve = Callable[..., Awaitable[Served]]


@pytest.fixture
async def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Serve]:
    """Yield a function that serves a model, by default a decoder of WORDS."""
    monkeypatch.setattr(link_module, "RECONNECT_SECONDS", 0.005)
    ends: list[Callable[[], Awaitable[Any]]] = []

    async def make(
        *,
        tokenizer: Tokenizer | None = None,
        heads: tuple[str, ...] = ("causal_lm",),
        defaults: dict[str, Any] | None = None,
        max_tokens: int = 64,
        cache_tokens: int = 200,
        queue_tokens: int = 1000,
    ) -> Served:
        tokenizer = tokenizer or wordpiece()
        size = tokenizer.get_vocab_size()
        compiled = tmp_path / "compiled"
        compiled.mkdir(exist_ok=True)
        tokenizer.save(str(compiled / "tokenizer.json"))
        own = GenerationDescription(size, max_tokens, (ID["[SEP]"],), 0, -1, defaults or {})
        special = {"unk": ("[UNK]", 1)} if tokenizer.token_to_id("[UNK]") == 1 else {}
        description(
            vocabulary_size=size,
            max_tokens=max_tokens,
            default_max_length=max_tokens,
            heads=heads,
            generation=own if heads else None,
            special_tokens=special,
        ).save(compiled)
        seal(compiled)
        worker = FakeWorker(tmp_path / "socket")
        worker.cache_tokens = cache_tokens
        await worker.start()
        settings = ModelSettings("mine", str(compiled), (str(worker.path),), queue_tokens)
        frontend = FrontendSettings("frontend", "h", 1, "v", (settings,), LIMITS, 1, 1.0, 20.0, "info")
        model = ServedModel(settings, frontend, ThreadPoolExecutor(1), lambda: None)
        await asyncio.wait_for(model.dispatcher.wait_live(), 60)
        purse = Purse()
        server = grpc.aio.server(interceptors=(chain(Gate(100), OneCaller(purse)),))
        add_service(server, SERVICE, handlers_of(GenerationService(Models([model])), SERVICE), LIMITS.max_request_bytes)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        ends.extend((channel.close, lambda: server.stop(None), model.dispatcher.close, worker.close))
        return Served(model, purse, worker, GenerationServiceStub(channel))

    yield make
    for end in ends:
        await end()
    await asyncio.sleep(0.01)


async def refusal(call: Awaitable[Any]) -> tuple[str, str, str]:
    """Return the code, the reason, and the first field at fault."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return told(raised.value)


def told(error: grpc.aio.AioRpcError) -> tuple[str, str, str]:
    trailing = dict(error.trailing_metadata() or ())
    raw = trailing["grpc-status-details-bin"]
    assert isinstance(raw, bytes)
    return status_told(status_pb2.Status.FromString(raw), error.code().name)


def status_told(status: status_pb2.Status, code: str = "") -> tuple[str, str, str]:
    info, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(request)
    return code, info.reason, request.field_violations[0].field if request.field_violations else ""
