"""A fake server that the command line finds, and the errors that the command line prints."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator

import pytest

from bertstream.cli import main
from tests.client.fake_server import FakeServer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    fake = FakeServer()
    monkeypatch.setenv("BERTSTREAM_ADDRESS", fake.address)
    yield fake
    fake.close()


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    def put(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), "ascii"))

    return put


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run a command that must fail, and return its exit code and the one line on standard error."""

    def run(*argv: str) -> tuple[int, str]:
        try:
            code = main(argv)
        except SystemExit as stop:
            code = int(str(stop.code))
        error = capsys.readouterr().err
        assert error.startswith("bertstream: error: ")
        assert error.count("\n") == 1
        return code, error

    return run
