"""Whatever is sent to an rpc gets an answer or a refusal with its reason, and the server serves on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given, note
from hypothesis import strategies as st

from bertstream.client import Client
from tests.fuzz.likely import METHODS, SPOKEN_METHODS, requests
from tests.fuzz.running import examples
from tests.support.generation_checkpoints import tiny_causal
from tests.support.server import Server, running

SECONDS = 60.0  # nothing that is asked for here takes a hundredth of it
MEMORY_BYTES = 1 << 29
MESSAGE_CHARACTERS = 2000
ALLOWED = ("OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION")
CHECKPOINTS = {
    "bert": "bert-pretraining",
    "nli": "roberta-nli",
    "ner": "bert-cased-ner",
    "qa": "roberta-qa",
    "choice": "roberta-choice",
}
TEXT = "The quick brown fox jumps over the lazy dog."


@dataclass
class Beside:
    """Good calls that go on all the while, each of which must give what the first gave."""

    client: Client
    made: int = 0
    problems: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        expected = self.client.encode([TEXT])
        while not self.stopped.wait(0.1):
            try:
                np.testing.assert_allclose(self.client.encode([TEXT]), expected, atol=1e-5)
            except Exception as error:
                self.problems.append(repr(error))
            self.made += 1


@dataclass
class Fuzzed:
    """The server, and what was true of it before it was sent anything odd."""

    server: Server
    channel: grpc.Channel
    beside: Beside
    processes: set[int]
    memory: int

    def call(self, method: MethodDescriptor, raws: list[bytes]) -> tuple[str, Any]:
        """Return the name of the status that a call with these messages ends with, and the error if it is one."""
        path = f"/{method.containing_service.full_name}/{method.name}"
        parse = GetMessageClass(method.output_type).FromString
        try:
            if method.client_streaming and not method.server_streaming:
                self.channel.stream_unary(path, bytes, parse)(iter(raws), timeout=SECONDS)
            elif method.client_streaming:
                list(self.channel.stream_stream(path, bytes, parse)(iter(raws), timeout=SECONDS))
            elif method.server_streaming:
                list(self.channel.unary_stream(path, bytes, parse)(raws[0], timeout=SECONDS))
            else:
                self.channel.unary_unary(path, bytes, parse)(raws[0], timeout=SECONDS)
        except grpc.RpcError as error:
            return error.code().name, error
        return "OK", None

    def problems(self) -> list[str]:
        """Return what is wrong with the server by now."""
        found = [str(record) for record in self.server.records if record["level"] in ("error", "critical")]
        found += [str(record) for record in self.server.records if "Traceback" in str(record)]
        if {child.pid for child in self.server.children("bertstream.")} != self.processes:
            found.append("a process has ended")
        if (grown := self.server.memory() - self.memory) > MEMORY_BYTES:
            found.append(f"it takes {grown >> 20} MiB more")
        return found + self.beside.problems


@pytest.fixture(scope="module")
def fuzzed(
    checkpoint: Callable[[str], Path], compile_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fuzzed]:
    root = tmp_path_factory.mktemp("roots")
    (root / "broken").mkdir()
    (root / "broken" / "config.json").write_text("{}")
    writer = tiny_causal(tmp_path_factory.mktemp("fuzz") / "writer")
    tiny = [f"{name}={checkpoint(of)}" for name, of in CHECKPOINTS.items()]
    options = ("--workers", "1", "--frontends", "1", "--model-roots", str(root))
    with (
        running(["all-MiniLM-L6-v2", *tiny, f"writer={writer}"], *options, cache=compile_cache) as server,
        grpc.insecure_channel(server.address, options=[("grpc.enable_retries", 0)]) as channel,
        Client(server.address) as client,
    ):
        processes = {child.pid for child in server.children("bertstream.")}
        beside = Beside(client)
        caller = threading.Thread(target=beside.run)
        caller.start()
        yield Fuzzed(server, channel, beside, processes, server.memory())
        beside.stopped.set()
        caller.join()


def details_of(error: Any) -> tuple[status_pb2.Status, error_details_pb2.ErrorInfo]:
    """Return the google.rpc.Status of an error, and its ErrorInfo."""
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in status.details)
    return status, info


# Hypothesis watches Python's generator of random numbers, and blames the strategy where a thread beside has used it, as
# OpenTelemetry's SDK does for the client's spans once a test of the same process has set it up.
@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
@pytest.mark.slow
@pytest.mark.parametrize("method", [*METHODS, *SPOKEN_METHODS], ids=lambda method: method.full_name)
@given(data=st.data())
@examples(60)
def test_a_call_is_answered_or_refused_for_a_reason(method: MethodDescriptor, fuzzed: Fuzzed, data: Any) -> None:
    raws = data.draw(requests(method))
    code, error = fuzzed.call(method, raws)
    note(f"{code}: {error}")
    assert code in ALLOWED
    if error is not None:
        status, info = details_of(error)
        assert (status.code, status.message) == (error.code().value[0], error.details())
        assert info.reason
        assert 0 < len(status.message) <= MESSAGE_CHARACTERS
        assert "\n" not in status.message
        assert "Traceback" not in status.message


@pytest.mark.slow
def test_the_server_is_as_it_was(fuzzed: Fuzzed) -> None:
    assert fuzzed.beside.made > 0
    assert fuzzed.problems() == []
