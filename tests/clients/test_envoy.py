"""Envoy, as deploy/envoy sets it up, gives every rpc as JSON over HTTP."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from bertstream.client import Client
from tests.clients.environments import installed, needs
from tests.support.hosted import free_port
from tests.support.imports import ROOT
from tests.support.markdown import ADDRESS
from tests.support.server import eventually
from tests.support.web import JSON, ask
from tests.test_protos import buf

pytestmark = needs("envoy")
CONFIGURATION = ROOT / "deploy" / "envoy" / "transcoder.yaml"
TEXTS = ["A cat sleeps on the warm roof.", "It will rain all night."]


@pytest.fixture(scope="module")
def envoy(documented: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the URL of an Envoy that runs the configuration, with other ports."""
    binary, folder, port = installed("envoy") / "envoy", tmp_path_factory.mktemp("envoy"), free_port()
    build = [str(buf()), "build", str(ROOT / "protos"), "--as-file-descriptor-set", "-o", "bertstream.binpb"]
    subprocess.run(build, cwd=folder, check=True, timeout=120)
    written = CONFIGURATION.read_text("utf-8")
    assert written.count("port_value: 8080") == written.count(f"port_value: {ADDRESS.partition(':')[2]}") == 1
    configuration = written.replace("port_value: 8080", f"port_value: {port}")
    (folder / "envoy.yaml").write_text(
        configuration.replace("port_value: 50051", f"port_value: {documented.split(':')[1]}")
    )
    with (folder / "log").open("w") as log:
        command = [
            str(binary),
            "-c",
            "envoy.yaml",
            "--use-dynamic-base-id",
            "--concurrency",
            "1",
            "--log-level",
            "warning",
        ]
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        try:
            eventually(lambda: answers(port) or process.poll() is not None, "Envoy", 60)
            assert process.poll() is None, (folder / "log").read_text("utf-8")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


def answers(port: int) -> bool:
    try:
        return ask(f"http://127.0.0.1:{port}/nothing").status > 0
    except OSError:
        return False


def post(url: str, rpc: str, body: Any) -> Any:
    return ask(f"{url}/bertstream.v1.{rpc}", json.dumps(body).encode(), JSON)


def vectors(tensor: Any) -> np.ndarray[Any, Any]:
    return np.frombuffer(base64.b64decode(tensor["data"]), "<f4").reshape([int(each) for each in tensor["shape"]])


def test_a_unary_call(envoy: str, client: Client) -> None:
    answer = post(envoy, "EncodingService/EncodeTexts", {"inputs": {"texts": {"texts": TEXTS}}})
    assert answer.status == 200
    np.testing.assert_array_equal(vectors(answer.json["encodings"]["pooled"]), client.encode(TEXTS))


def test_a_stream_is_a_message_a_line(envoy: str) -> None:
    answer = post(envoy, "EncodingService/StreamLayers", {"inputs": {"texts": {"texts": TEXTS[:1]}}})
    events = [json.loads(line) for line in answer.body.splitlines()]
    assert [next(iter(event)) for event in events] == ["started", *["rows"] * 7, "completed"]
    assert [event["rows"].get("layer", 0) for event in events[1:-1]] == list(range(7))


def test_an_error_has_its_details(envoy: str) -> None:
    answer = post(envoy, "EncodingService/EncodeTexts", {"inputs": {"texts": {"texts": []}}})
    assert (answer.status, answer.json["message"]) == (400, "inputs.texts: the list is empty")
    details = {each["@type"].rpartition(".")[2]: each for each in answer.json["details"]}
    assert details["ErrorInfo"]["reason"] == "INVALID_EMPTY_LIST"
    assert json.dumps(details["BadRequest"]).count("inputs.texts") == 1
