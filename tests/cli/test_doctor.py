"""`bertstream doctor`: what it finds, what it says to do, and its exit code."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bertstream.cli import main
from bertstream.cli._doctor import (
    Finding,
    cache_finding,
    gpu_finding,
    line,
    listens,
    no_server,
    operators_finding,
    port_finding,
    server_finding,
)
from bertstream.cli._server import REQUIRED
from tests.client.fake_server import FakeServer


@pytest.fixture
def taken() -> Iterator[int]:
    """Return a port that something listens on, which is no server of ours."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.fixture
def without_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertstream.cli._server.REQUIRED", ("nothing_of_this_name",))
    monkeypatch.setattr("bertstream.cli._doctor.REQUIRED", ("nothing_of_this_name",))


def test_a_client_alone(without_the_server: None, server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    client, asked, serving = capsys.readouterr().out.splitlines()
    assert client.startswith("ok       client     Python 3.")
    assert "grpcio 1." in client
    assert asked.split()[:2] == ["ok", "server"]
    assert f"serves at {server.address}" in asked
    assert serving.split()[:2] == ["note", "serving"]
    assert serving.endswith("the server is not installed: to serve models here, pip install 'bertstream[server]'")


def test_a_server_that_is_not_ready(
    without_the_server: None, server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.does.health = 2
    assert main(["doctor", "--json"]) == 1
    found = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert found["server"]["state"] == "problem"
    assert found["server"]["what"] == f"the server at {server.address} is NOT_SERVING"
    assert found["server"]["advice"] == "it starts or stops; its log says why"


def test_no_server(without_the_server: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--address", "127.0.0.1:1"]) == 0
    assert "no server at 127.0.0.1:1: start one with `bertstream serve`, or say --address" in capsys.readouterr().out
    assert main(["doctor", "--address", "nonsense"]) == 1
    assert "problem  server     nonsense: " in capsys.readouterr().out


def test_all_that_a_server_needs(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BERTSTREAM_CACHE", str(tmp_path / "cache"))
    main(["doctor"])  # whatever this machine is like
    rows = [row.split() for row in capsys.readouterr().out.splitlines()]
    names = ["client", "server", "serving", "compiler", "operators", "cache", "port", "gpu"]
    assert [row[1] for row in rows] == names
    assert {row[0] for row in rows} <= {"ok", "note", "problem"}
    assert not (tmp_path / "cache").exists()


def test_something_else_at_the_address(taken: int) -> None:
    address = f"127.0.0.1:{taken}"
    assert (listens(address), listens("127.0.0.1:1"), listens("dns:///name")) == (True, False, False)
    found = no_server(address, True)
    assert (found.state, found.advice) == ("problem", "say --address with its gRPC port, or --tls if it wants TLS")


@pytest.mark.parametrize(
    ("missing", "python", "state", "words"),
    [
        ((), (3, 13), "ok", "torch "),
        (REQUIRED, (3, 13), "note", "the server is not installed"),
        (("h11", "rich"), (3, 13), "problem", "the server lacks h11, rich"),
        (REQUIRED, (3, 14), "note", "cannot be served with Python 3.14, which TorchScript does not support"),
    ],
)
def test_what_is_installed(missing: tuple[str, ...], python: tuple[int, int], state: str, words: str) -> None:
    found = server_finding(missing, python)
    assert (found.state, words in found.what, bool(found.advice)) == (state, True, state != "ok")


@pytest.mark.parametrize(
    ("usable", "why", "advice"),
    [
        (True, "built by /usr/bin/c++", ""),
        (False, "no C++ compiler found", "install one (apt install g++), or a wheel that has them"),
        (False, "switched off by BERTSTREAM_NATIVE=0", "unset the variable"),
        (False, "the processor has no AVX2, without which", ""),
    ],
)
def test_operators(usable: bool, why: str, advice: str) -> None:
    found = operators_finding(usable, why, "avx2")
    assert (found.state, found.advice) == ("ok" if usable else "note", advice)
    assert why in found.what


def test_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "a" / "b"
    assert cache_finding(cache).state == "ok"
    assert cache_finding(cache).what.startswith(f"{cache}, ")
    (tmp_path / "file").write_text("")
    for wrong in (tmp_path / "file", tmp_path / "file" / "below"):
        found = cache_finding(wrong)
        assert (found.state, "--cache or BERTSTREAM_CACHE" in found.advice) == ("problem", True)
    monkeypatch.setattr("bertstream.cli._doctor.LEAST_FREE_BYTES", 1 << 80)
    assert cache_finding(cache).advice.endswith("make room")


def test_a_cache_that_others_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    assert cache_finding(tmp_path).what == f"{tmp_path} cannot be written to"


def test_the_port(taken: int) -> None:
    assert port_finding(taken, served=False).state == "problem"
    assert port_finding(taken, served=False).advice == "serve with another --port"
    assert port_finding(taken, served=True) == Finding(
        "port", "ok", f"{taken} is in use; a second server here needs another --port"
    )
    assert port_finding(0, served=False).state == "ok"


def test_gpus() -> None:
    assert gpu_finding(["H200", "H200"], "", "2.15").what == "H200, H200"
    assert gpu_finding([], "", "2.15").state == "ok"
    found = gpu_finding([], "/dev/nvidia0", "2.15+cpu")
    assert (found.state, "torch 2.15+cpu finds no GPU" in found.what) == ("problem", True)


def test_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = Finding("port", "problem", "taken", "do this")
    assert line(finding) == "problem  port       taken: do this"
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert line(finding).startswith("\x1b[31mproblem\x1b[0m  port")
    monkeypatch.setenv("NO_COLOR", "1")
    assert line(finding).startswith("problem  port")
