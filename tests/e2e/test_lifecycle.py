"""A server starts, describes itself, drains and stops, and its command line works, as a person sees it."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bertstream.client import Client, FailedPrecondition
from bertstream.server.frontend.handling import SERVICES
from bertstream.v1 import encoding_pb2, encoding_pb2_grpc
from tests.support.server import Server, eventually, gone, running


def bertstream(*arguments: str, server: Server | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    address = {"BERTSTREAM_ADDRESS": server.address} if server else {}
    return subprocess.run(
        [sys.executable, "-m", "bertstream.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, **address, **environment},
    )


def test_models_describe_themselves(server: Server) -> None:
    with Client(server.address) as client:
        models = client.models()
        assert client.server_version() == "0.1.0"
    assert [model.name for model in models][:4] == ["all-MiniLM-L6-v2", "bert", "roberta", "roberta-pad"]
    first, _, roberta, *_ = models
    assert (first.family, first.layers, first.hidden_size, first.attention_heads) == ("bert", 6, 384, 12)
    assert (first.max_tokens, first.default_max_length) == (512, 256)
    assert (first.default_pooling.mode, first.default_pooling.normalize) == ("mean", True)
    assert first.special_tokens["mask"].id == 103
    assert (roberta.family, roberta.max_tokens, roberta.type_vocabulary_size) == ("roberta", 512, 1)
    assert all(model.live_workers == model.workers == 1 for model in models)
    assert len({model.revision for model in models}) == len(models) == 10


def test_settings_are_no_arguments_of_processes_since_all_can_read_those(server: Server) -> None:
    started = [child.cmdline() for child in server.children()]
    assert len(started) > len(server.workers) > 0
    modules = {"bertstream.workers.process", "bertstream.server.frontend.process"}
    assert {arguments[-3] for arguments in started} == modules
    assert all(arguments[1:3] == ["-P", "-m"] and len(arguments) == 6 for arguments in started)
    assert all(re.fullmatch(r"(frontend|worker-\d+)-\d+ \d+", " ".join(arguments[4:])) for arguments in started)


def test_health_of_the_server_its_services_and_models(server: Server) -> None:
    with grpc.insecure_channel(server.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for service in ("", *SERVICES, "models/bert"):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(health_pb2.HealthCheckRequest(service="models/nobody"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_the_ready_line_says_what_is_served(server: Server) -> None:
    assert f"ready on {server.address} " in server.ready_line
    for part in ("all-MiniLM-L6-v2 (bert, 6 layers, 384 wide)", "cpu float32", "native operators: ", "1 worker of"):
        assert part in server.ready_line


def test_logs_are_json_and_hold_no_text_of_users(server: Server) -> None:
    with Client(server.address) as client:
        client.encode(["a very secret sentence"])
        with pytest.raises(Exception, match="nobody"):
            client.encode(["a very secret sentence"], model="nobody")
    assert "secret" not in "".join(server.log)
    assert all({"time", "level", "process", "logger", "message"} <= record.keys() for record in server.records)


def test_how_a_start_goes_is_in_the_log(
    checkpoint: Callable[[str], Path], new_cache: Callable[[Path], Path], tmp_path: Path
) -> None:
    with running([f"tiny={checkpoint('bert')}"], "--workers", "1", cache=new_cache(tmp_path / "cache")) as server:
        # The line that says that all is ready comes by another pipe, and may be read before the log.
        eventually(lambda: len(server.logged("frontend-0 is ready")) == 1, "the log to be read")
        steps = [record["step"] for record in server.records if record.get("model") == "tiny"]
        assert steps[0] == "find"
        assert steps[-1] == "ready"
        assert len(server.logged("starting 1 worker")) == 1


def test_stopping_drains_and_leaves_nothing_behind(checkpoint: Callable[[str], Path], compile_cache: Path) -> None:
    """Stop it as Ctrl-C does; test_frontends.py stops one by SIGTERM."""
    options = ("--workers", "1", "--drain-seconds", "240")  # far more than it takes, but where all else is busy
    with running([f"tiny={checkpoint('bert')}"], *options, cache=compile_cache) as server:
        family = [psutil.Process(server.process.pid), *server.children()]
        assert len(family) >= 3
        got: list[int] = []
        with Client(server.address, reconnect_seconds=0) as client:
            begun = threading.Event()

            def texts() -> Iterator[list[int]]:
                for index in range(6_000):
                    if index == 500:
                        begun.set()
                    yield [5 + index % 90] * 100

            def run() -> None:
                got.extend(i for batch in client.encode_stream(texts()) for i in batch.ids.tolist())

            thread = threading.Thread(target=run)
            thread.start()
            assert begun.wait(60)
            assert server.stop(signal.SIGINT, 240) == 0
            thread.join(60)
        assert got == list(range(6_000))  # the calls under way were finished
        eventually(lambda: not any(process.is_running() for process in family), "every process to be gone")


def test_a_supervisor_that_is_killed_takes_its_children_along(
    checkpoint: Callable[[str], Path], compile_cache: Path
) -> None:
    options = ("--workers", "2", "--drain-seconds", "300")  # for which nobody could answer the open call
    with running([f"tiny={checkpoint('bert')}"], *options, cache=compile_cache) as server:
        children, folder = server.children(), server.socket_folder()
        assert folder.is_dir()
        requests = queue.SimpleQueue[encoding_pb2.StreamEncodingsRequest | None]()
        requests.put(encoding_pb2.StreamEncodingsRequest(options=encoding_pb2.EncodingOptions()))
        with grpc.insecure_channel(server.address) as channel:
            call = encoding_pb2_grpc.EncodingServiceStub(channel).StreamEncodings(iter(requests.get, None))
            assert next(call).HasField("started")
            server.process.kill()
            server.process.wait()
            eventually(lambda: all(map(gone, children)), "the children to go")
            with pytest.raises(grpc.RpcError) as caught:
                next(call)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            requests.put(None)
        assert not folder.exists()


def test_a_port_in_use_is_an_error_at_start(server: Server) -> None:
    port = server.address.rpartition(":")[2]
    done = bertstream("serve", "--port", port)
    assert done.returncode == 2
    (record,) = map(json.loads, done.stderr.splitlines())
    assert record["message"] == f"cannot listen on 127.0.0.1:{port}: Address already in use"
    with socket.create_server(("127.0.0.1", 0)) as other:
        done = bertstream("serve", "--port", str(other.getsockname()[1]))
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("serve", "/nowhere/at/all"), "/nowhere/at/all"),
        (("serve", "--port", "many"), "--port must be a whole number"),
        (("serve", "--dtype", "int3"), "invalid choice"),
        (("serve", "--device", "cuda"), "no CUDA device"),
        (("compile", "/etc"), "config.json"),
    ],
)
def test_a_start_that_cannot_be_fails_in_one_line_of_the_log(arguments: tuple[str, ...], words: str) -> None:
    done = bertstream(*arguments, HF_HUB_OFFLINE="1")
    assert done.returncode in (1, 2)
    records = [json.loads(line) for line in done.stderr.splitlines()]
    assert words in records[-1]["message"]
    assert [record["level"] for record in records if record["level"] != "info"] == ["error"]
    assert "Traceback" not in done.stderr


def test_settings_from_variables_and_a_file(
    checkpoint: Callable[[str], Path], compile_cache: Path, tmp_path: Path
) -> None:
    file = tmp_path / "bertstream.toml"
    table = f'[model.own]\nsource = "{checkpoint("bert")}"\ndtype = "bfloat16"\nworkers = 2\nmax_length = 9\n'
    file.write_text(f'models = ["filed={checkpoint("roberta")}"]\nmax_texts = 7\nworkers = 3\n{table}')
    environment = {"BERTSTREAM_CONFIG": str(file), "BERTSTREAM_WORKERS": "1"}
    with running(cache=compile_cache, environment=environment) as server, Client(server.address) as client:
        model, own = client.models()
        assert client.encode(["a", "b c"], model="own").shape == (2, 36)
        assert "own (bert, 5 layers, 36 wide, cpu bfloat16, 2 workers of" in server.ready_line
    assert (model.name, model.workers, model.limits.max_texts) == ("filed", 1, 7)
    assert (own.name, own.workers, own.compute_type, own.default_max_length) == ("own", 2, "bfloat16", 9)


@pytest.mark.parametrize("change", [lambda it: it.load_model("x", "bert"), lambda it: it.unload_model("bert")])
def test_nothing_is_loaded_or_unloaded_without_leave(server: Server, change: Callable[[Client], object]) -> None:
    with Client(server.address) as client:
        with pytest.raises(FailedPrecondition, match="without leave") as caught:
            change(client)
        assert caught.value.reason == "LOADING_NOT_ALLOWED"
        assert "bert" in [model.name for model in client.models()]


class TestCommandLine:
    def test_health(self, server: Server) -> None:
        assert bertstream("health", server=server).returncode == 0
        assert bertstream("health", "--address", "127.0.0.1:1").returncode == 3

    def test_models(self, server: Server) -> None:
        done = bertstream("models", server=server)
        assert done.returncode == 0
        assert "roberta-pad" in done.stdout

    def test_tokenize(self, server: Server) -> None:
        done = bertstream("tokenize", "Hello, Welt!", "--json", server=server)
        assert done.returncode == 0, done.stderr
        assert "7592" in done.stdout

    def test_encode_lines_into_a_file(self, server: Server, tmp_path: Path) -> None:
        output = tmp_path / "vectors.npy"
        done = subprocess.run(
            [sys.executable, "-m", "bertstream.cli", "encode", "-", "-o", str(output), "--address", server.address],
            input="fox\ndog\n\nbird\n",
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        with Client(server.address) as client:
            np.testing.assert_allclose(np.load(output), client.encode(["fox", "dog", "", "bird"]), atol=1e-5)

    def test_compile_twice_gives_the_same_directory(
        self, checkpoint: Callable[[str], Path], new_cache: Callable[[Path], Path], tmp_path: Path
    ) -> None:
        cache = str(new_cache(tmp_path / "cache"))
        runs = [bertstream("compile", f"mine={checkpoint('bert')}", BERTSTREAM_CACHE=cache) for _ in range(2)]
        assert [run.returncode for run in runs] == [0, 0]
        assert runs[0].stdout == runs[1].stdout
        records = [json.loads(line) for run in runs for line in run.stderr.splitlines()]
        assert {record["model"] for record in records} == {"mine"}
        assert (Path(runs[0].stdout.split("\t")[1].strip()) / "program.pt").is_file()


def test_workers_let_frontends_go_first(server: Server) -> None:
    (frontend, *_), (worker, *_) = (
        server.children(f"{part}") for part in ("server.frontend.process", "workers.process")
    )
    assert worker.nice() == min(frontend.nice() + 5, 19)
