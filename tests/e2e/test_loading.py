"""Models are loaded, replaced and unloaded while the server serves others."""

from __future__ import annotations

import json
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from bertstream.client import Client, Health
from bertstream.server.protocols.inference import inference_pb2 as pb
from bertstream.v1 import models_pb2, models_pb2_grpc, types_pb2
from tests.support.checkpoints import sentence_files
from tests.support.inference import InferenceCalls, outputs_of, request_of
from tests.support.sentence import add_module
from tests.support.server import Server, answers, eventually, gone, running

TEXTS = ["A quick brown fox.", "jumps over", "the lazy dog, again and again."]
DRAIN_SECONDS = 5  # that calls may go on with a version that was replaced


class Loading:
    """Calls LoadModel and UnloadModel, and returns their results."""

    def __init__(self, server: Server) -> None:
        self._channel = grpc.insecure_channel(server.address)
        self._stub: Any = models_pb2_grpc.ModelServiceStub(self._channel)

    def load(self, name: str, source: str, *, timeout: float = 240, **options: Any) -> models_pb2.Model:
        request = models_pb2.LoadModelRequest(name=name, source=source, **options)
        model: models_pb2.Model = self._stub.LoadModel(request, timeout=timeout).model
        return model

    def unload(self, name: str) -> None:
        self._stub.UnloadModel(models_pb2.UnloadModelRequest(name=name), timeout=60)

    def names(self) -> list[str]:
        return [model.name for model in self._stub.ListModels(models_pb2.ListModelsRequest(), timeout=60).models]

    def close(self) -> None:
        self._channel.close()


def refused(call: Callable[[], object]) -> tuple[str, str, str]:
    """Return the status, reason and message of a call that is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    info = error_details_pb2.ErrorInfo()
    status_pb2.Status.FromString(details).details[0].Unpack(info)
    return error.code().name, info.reason, error.details()


@pytest.fixture(scope="module")
def root(checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model root with checkpoints of two families, a broken one, and a link that leads out of it."""
    made = tmp_path_factory.mktemp("roots") / "root"
    for name in ("bert", "roberta", "bert-cased"):
        shutil.copytree(checkpoint(name), made / "tiny" / name)
    shutil.copytree(checkpoint("bert"), made / "broken")
    (made / "broken" / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    shutil.copytree(checkpoint("bert"), made / "pointer")
    (made / "pointer" / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    add_module(sentence_files(Path(shutil.copytree(checkpoint("bert"), made / "odd"))), "CNN", "3_CNN")
    (made / "escape").symlink_to(checkpoint("roberta"))
    return made


@pytest.fixture(scope="module")
def server(root: Path, compile_cache: Path) -> Iterator[Server]:
    environment = {"BERTSTREAM_MODEL_ROOTS": str(root), "HF_HUB_OFFLINE": "1"}
    options = ("--workers", "1", "--threads", "1", "--drain-seconds", str(DRAIN_SECONDS))
    with running([f"first={root / 'tiny/bert'}"], *options, cache=compile_cache, environment=environment) as started:
        yield started


@pytest.fixture
def loading(server: Server) -> Iterator[Loading]:
    made = Loading(server)
    yield made
    for name in made.names():
        if name != "first":
            made.unload(name)
    eventually(lambda: len(server.workers) == 1, "the other workers to go")
    made.close()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    """Yield a client without retries, so that a call that fails is seen."""
    with Client(server.address, retries=0, reconnect_seconds=0) as opened:
        yield opened


class Busy:
    """Threads that call encode in a loop, and one that reads an endless stream, until they are stopped.

    They pause a little, since what is loaded meanwhile needs the cores.
    """

    def __init__(self, client: Client, model: str, threads: int) -> None:
        self._client, self._model = client, model
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(threads + 1)
        self._calls = [self._pool.submit(self._call) for _ in range(threads)]
        self._stream = self._pool.submit(self._read)
        self.streamed = 0

    def _call(self) -> int:
        count = 0
        while not self._stop.wait(0.02):
            assert self._client.encode(TEXTS, model=self._model).shape == (3, 36)
            count += 1
        return count

    def _read(self) -> int:
        texts = iter(lambda: None if self._stop.wait(0.001) else TEXTS[0], None)
        for batch in self._client.encode_stream(texts, model=self._model, batch_size=16):
            self.streamed += len(batch.ids)
        return self.streamed

    def stop(self) -> None:
        """Stop the threads, and raise the error that any of them has met."""
        self._stop.set()
        assert all(call.result(60) > 0 for call in self._calls)
        assert self._stream.result(60) > 0
        self._pool.shutdown()


def test_a_model_is_loaded_beside_one_that_is_busy(client: Client, loading: Loading) -> None:
    busy = Busy(client, "first", 2)
    model = loading.load("second", "tiny/roberta", compute_type=types_pb2.DATA_TYPE_BFLOAT16)
    assert (model.name, model.family, model.compute_type) == ("second", "roberta", types_pb2.DATA_TYPE_BFLOAT16)
    assert model.live_workers == model.workers == 1
    assert client.encode(TEXTS, model="second").shape == (3, 36)
    assert client.health("models/second") is Health.SERVING
    assert loading.names() == ["first", "second"]
    busy.stop()
    again = loading.load("second", "tiny/roberta", compute_type=types_pb2.DATA_TYPE_BFLOAT16)
    assert again == model


def test_a_model_is_replaced_while_it_is_busy(
    server: Server, client: Client, loading: Loading, checkpoint: Callable[[str], Path]
) -> None:
    (first,) = server.workers
    old = loading.load("mine", "tiny/bert")
    (worker,) = set(server.workers) - {first}
    before = client.encode(TEXTS, model="mine")
    np.testing.assert_array_equal(before, client.encode(TEXTS, model="first"))
    busy = Busy(client, "mine", 8)
    eventually(lambda: busy.streamed > 100, "the stream to run")
    new, loaded = loading.load("mine", "tiny/roberta"), time.monotonic()
    assert (old.name, old.family, new.name, new.family) == ("mine", "bert", "mine", "roberta")
    assert old.revision != new.revision
    after = client.encode(TEXTS, model="mine")
    assert np.abs(after - before).max() > 0.01
    streamed = busy.streamed
    eventually(lambda: busy.streamed > streamed + 100, "the stream to go on, on the old version")
    assert worker.is_running() or time.monotonic() - loaded > DRAIN_SECONDS / 2  # on a machine with much else to do
    busy.stop()
    eventually(lambda: gone(worker), "the old version's worker to go")
    np.testing.assert_array_equal(client.encode(TEXTS, model="mine"), after)


def test_a_stream_that_is_too_long_for_the_old_version_goes_on_with_the_new_one(
    server: Server, client: Client, loading: Loading
) -> None:
    loading.load("mine", "tiny/bert")
    old = client.encode(TEXTS[:1], model="mine")[0]
    ended = threading.Event()
    texts = iter(lambda: None if ended.is_set() else TEXTS[0], None)
    with Client(server.address) as patient:
        stream = patient.encode_stream(texts, model="mine", batch_size=16)
        assert np.allclose(next(stream).vectors, old, atol=1e-5)
        loading.load("mine", "tiny/roberta")
        ids = [0]
        for batch in stream:
            assert batch.errors == []
            ids.extend(batch.ids[:1].tolist())
            if not np.allclose(batch.vectors, old, atol=1e-3):
                ended.set()
        assert ended.is_set()
        assert ids == list(range(0, ids[-1] + 1, 16))


def test_the_default_model_is_unloaded_and_the_next_takes_its_place(
    server: Server, client: Client, loading: Loading
) -> None:
    first = client.encode(TEXTS)
    loading.load("second", "tiny/bert-cased")
    loading.unload("first")
    assert refused(lambda: loading.unload("first"))[:2] == ("NOT_FOUND", "MODEL_NOT_FOUND")
    assert client.health("models/first") is Health.SERVICE_UNKNOWN
    assert client.health()
    assert [model.name for model in client.models()] == ["second"]
    assert np.abs(client.encode(TEXTS) - first).max() > 0.01
    status, reason, message = refused(lambda: loading.unload("second"))
    assert (status, reason) == ("INVALID_ARGUMENT", "LAST_MODEL")
    assert "'second' is the only model" in message
    assert refused(lambda: loading.unload(""))[:2] == ("INVALID_ARGUMENT", "INVALID_MODEL_NAME")
    loading.load("first", "tiny/bert")
    loading.unload("second")
    np.testing.assert_array_equal(client.encode(TEXTS), first)
    eventually(lambda: len(server.workers) == 1, "the others' workers to go")


@pytest.mark.parametrize(
    ("name", "source", "status", "reason", "words"),
    [
        ("", "tiny/bert", "INVALID_ARGUMENT", "INVALID_MODEL_NAME", "name"),
        ("a b", "tiny/bert", "INVALID_ARGUMENT", "INVALID_MODEL_NAME", "name"),
        ("a", "", "INVALID_ARGUMENT", "INVALID_MODEL_NAME", "source"),
        ("a", "/etc", "INVALID_ARGUMENT", "INVALID_MODEL_NAME", "source"),
        ("a", "../root/tiny/bert", "INVALID_ARGUMENT", "INVALID_MODEL_NAME", "source"),
        ("a", "tiny/../tiny/bert", "INVALID_ARGUMENT", "INVALID_MODEL_NAME", "source"),
        ("a", "x" * 129, "INVALID_ARGUMENT", "INVALID_MODEL_NAME", "source"),
        ("a", "escape", "NOT_FOUND", "CHECKPOINT_NOT_FOUND", "'escape'"),
        ("a", ".", "NOT_FOUND", "CHECKPOINT_NOT_FOUND", "'.'"),
        ("a", "no/such", "NOT_FOUND", "CHECKPOINT_NOT_FOUND", "'no/such'"),
        ("a", "bert-base-uncased", "NOT_FOUND", "CHECKPOINT_NOT_FOUND", "below the model roots"),
        ("a", "broken", "FAILED_PRECONDITION", "MODEL_NOT_LOADABLE", "gpt2"),
        ("a", "pointer", "FAILED_PRECONDITION", "MODEL_NOT_LOADABLE", 'run "git lfs pull" in pointer'),
        ("a", "odd", "FAILED_PRECONDITION", "MODEL_NOT_LOADABLE", "module CNN (3_CNN) is not supported"),
        ("a", "tiny", "FAILED_PRECONDITION", "MODEL_NOT_LOADABLE", "config.json"),
    ],
)
def test_what_cannot_be_loaded(
    loading: Loading, root: Path, name: str, source: str, status: str, reason: str, words: str
) -> None:
    told = refused(lambda: loading.load(name, source))
    assert told[:2] == (status, reason)
    assert words in told[2]
    assert str(root) not in told[2]
    assert "\n" not in told[2]
    assert loading.names() == ["first"]


def test_a_version_in_int8(server: Server, client: Client, loading: Loading) -> None:
    exact = client.encode(TEXTS)
    model = client.load_model("second", "tiny/bert", dtype="int8")
    assert (model.compute_type, model.device, model.live_workers) == ("int8", "cpu", 1)
    assert model.precision_test is not None
    assert 0.99 < model.precision_test.min_cosine < 1
    coarse = client.encode(TEXTS, model="second")
    assert coarse.shape == exact.shape
    cosines = (coarse * exact).sum(1) / np.linalg.norm(coarse, axis=1) / np.linalg.norm(exact, axis=1)
    assert 0.99 < cosines.min() < 1 - 1e-7


def test_what_cannot_be_run_is_left_out_where_that_is_allowed(server: Server, client: Client, loading: Loading) -> None:
    model = client.load_model("odd", "odd", allow_unsupported_modules=True)
    assert model.warnings[0].startswith("What the checkpoint's authors meant is not done: module CNN (3_CNN)")
    assert client.encode(TEXTS, model="odd").shape == (3, 36)
    loading.unload("odd")
    assert refused(lambda: loading.load("odd", "odd"))[:2] == ("FAILED_PRECONDITION", "MODEL_NOT_LOADABLE")


@pytest.mark.parametrize("options", [{"workers": -1}, {"workers": 1000}, {"compute_type": 99}])
def test_options_that_cannot_be(loading: Loading, options: dict[str, Any]) -> None:
    assert refused(lambda: loading.load("a", "tiny/bert", **options))[0] == "INVALID_ARGUMENT"


def test_by_the_open_inference_protocol(server: Server, loading: Loading) -> None:
    with grpc.insecure_channel(server.address) as channel:
        calls = InferenceCalls(channel)

        def change(verb: str, request: Message) -> Any:
            return calls.call(f"RepositoryModel{verb}", request, timeout=120)

        request = pb.RepositoryModelLoadRequest(model_name="second")
        request.parameters["source"].string_param = "tiny/roberta"
        change("Load", request)
        found = outputs_of(calls.infer(request_of("second", text=TEXTS)))
        assert found["embeddings"].shape[0] == len(TEXTS)
        # KServe's clients have the model's name in the first field, and read what was done.
        assert change("Unload", pb.RepositoryModelUnloadRequest(repository_name="second")).isUnloaded
        assert loading.names() == ["first"]
        status = refused(lambda: change("Load", pb.RepositoryModelLoadRequest(model_name="nothing")))
        assert status[:2] == ("NOT_FOUND", "CHECKPOINT_NOT_FOUND")
        request.parameters["config"].string_param = "{}"
        assert refused(lambda: change("Load", request))[1] == "INVALID_PARAMETER"
        status = refused(lambda: change("Unload", pb.RepositoryModelUnloadRequest(model_name="first")))
        assert status[:2] == ("INVALID_ARGUMENT", "LAST_MODEL")
        assert status[2].startswith("model_name: ")


def test_a_load_whose_caller_gives_up_goes_on(server: Server, client: Client, loading: Loading) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        loading.load("late", "tiny/bert", timeout=0.5)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    eventually(lambda: "late" in loading.names(), "the load to be done")
    assert client.encode(TEXTS, model="late").shape == (3, 36)


def test_a_frontend_that_dies_comes_back_with_what_was_loaded(server: Server, loading: Loading) -> None:
    loading.load("second", "tiny/bert")
    for frontend in server.children("bertstream.server.frontend.process"):
        frontend.kill()
        frontend.wait(20)
    with Client(server.address, reconnect_seconds=60) as patient:
        eventually(lambda: answers(patient), "the new frontend")
        assert [model.name for model in patient.models()] == ["first", "second"]
        assert patient.encode(TEXTS, model="second").shape == (3, 36)
    model = loading.load("second", "tiny/roberta")
    assert model.family == "roberta"


def test_a_server_that_is_stopped_while_it_loads(root: Path, new_cache: Callable[[Path], Path], tmp_path: Path) -> None:
    """Send SIGTERM in the midst of a load, which ends it and leaves no process."""
    environment = {"BERTSTREAM_MODEL_ROOTS": str(root)}
    options = (f"first={root / 'tiny/bert'}", "--workers", "1", "--threads", "1")
    with running(options[:1], *options[1:], cache=new_cache(tmp_path / "cache"), environment=environment) as server:
        loading = Loading(server)
        outcome: list[tuple[str, str, str]] = []
        thread = threading.Thread(
            target=lambda: outcome.append(refused(lambda: loading.load("second", "tiny/roberta")))
        )
        thread.start()
        eventually(lambda: bool(server.children("bertstream.workers.compile.compiling")), "the compiler to start")
        time.sleep(0.5)
        family = [psutil.Process(server.process.pid), *server.children()]
        assert server.stop(signal.SIGTERM) == 0
        thread.join(30)
        loading.close()
        assert outcome[0][:2] == ("UNAVAILABLE", "DRAINING")
        eventually(lambda: all(map(gone, family)), "every process to be gone")
